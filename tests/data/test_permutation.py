import numpy as np
import pytest
import tensorflow as tf

from aelab.data.permutation import example_indices


def indices(first, count, size, seed=5):
    return example_indices(first, count, size, seed).numpy()


@pytest.mark.parametrize("size", [1, 2, 3, 100, 4443])
def test_every_epoch_shows_each_image_once(size):
    seen = indices(0, 3 * size, size).reshape(3, size)
    for epoch in seen:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


def test_epochs_and_seeds_have_different_orders():
    orders = [indices(0, 1000, 1000), indices(1000, 1000, 1000)]
    orders += [indices(0, 1000, 1000, seed=6)]
    for one in range(3):
        for two in range(one):
            assert (orders[one] == orders[two]).mean() < 0.02
            assert abs(np.corrcoef(orders[one], orders[two])[0, 1]) < 0.15


def test_an_order_has_no_simple_pattern():
    order = indices(0, 1000, 1000)
    steps = np.diff(order)
    assert len(np.unique(steps)) > 500
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.15


def test_distant_examples_are_computed_directly():
    far = 10**9 * 1000
    np.testing.assert_array_equal(np.sort(indices(far, 1000, 1000)), np.arange(1000))


def test_the_first_example_may_be_a_tensor():
    compiled = tf.function(lambda first: example_indices(first, 30, 20, 5))
    found = compiled(tf.constant(17, tf.int64))
    assert found.dtype == tf.int64
    np.testing.assert_array_equal(found, indices(17, 30, 20))
