import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from aelab.data.permutation import example_indices

BATCH = 128

# (seed, epoch). Release 0.1.0 took 8 bits of each, so 0 and 256 were the same.
EPOCHS = [(0, 0), (0, 1), (0, 256), (0, 7), (0, 263)]
SEEDS = [(1, 0), (256, 0), (7, 0), (263, 0)]


def indices(first, count, size, seed=5, version=2):
    return example_indices(first, count, size, seed, version).numpy()


def order(size, seed, epoch):
    return indices(epoch * size, size, size, seed)


def shared_batch_mates(one, other):
    """How many pairs of images are in one batch in both orders, relative to chance."""
    size = len(one)
    whole = size // BATCH * BATCH
    batch_of = np.full(size, -1)
    batch_of[one[:whole]] = np.arange(whole) // BATCH
    batches = np.sort(batch_of[other[:whole]].reshape(-1, BATCH))
    cells = batches + np.arange(len(batches))[:, np.newaxis] * (size + 1)
    _, counts = np.unique(cells[batches >= 0], return_counts=True)
    pairs = counts @ (counts - 1)
    both_in_a_batch = whole * (whole - 1) / (size * (size - 1))
    chance = both_in_a_batch * (BATCH - 1) / (whole - 1)
    return pairs / (whole * (BATCH - 1) * chance)


def assert_permutation(values):
    np.testing.assert_array_equal(np.sort(values), np.arange(len(values)))


def test_small_sets_are_permuted():
    for size in range(1, 4097):
        assert_permutation(order(size, seed=3, epoch=2))


@pytest.mark.parametrize(
    "power", [2**12, 2**13, 2**14, 2**15, 2**16, 2**17, 2**18, 2**20]
)
def test_sets_around_powers_of_two_are_permuted(power):
    for size in range(power - 1, power + 3):
        assert_permutation(order(size, seed=3, epoch=2))


@pytest.mark.parametrize("size", [2**22 + 1, 2**30 + 1, 2**31 - 1])
def test_of_a_large_set_no_image_comes_twice(size):
    positions = 1_000_000
    values = indices(3 * size - positions, positions, size)
    assert len(np.unique(values)) == positions
    assert values.min() >= 0
    assert values.max() < size
    assert stats.kstest(values / size, "uniform").pvalue > 0.001


@pytest.mark.parametrize(
    "size", [4_443, 16_384, 50_000, 60_000, 65_537, 262_144, 262_145]
)
def test_two_orders_share_as_many_batch_mates_as_chance(size):
    orders = [order(size, *each) for each in EPOCHS + SEEDS]
    shares = [shared_batch_mates(*pair) for pair in itertools.combinations(orders, 2)]
    assert np.allclose(shares, 1, atol=0.05), shares
    assert np.mean(shares) == pytest.approx(1, abs=0.01)


def test_the_order_of_release_0_1_0_shares_too_many():
    orders = [indices(e * 60_000, 60_000, 60_000, version=1) for e in (0, 1)]
    assert shared_batch_mates(*orders) > 50


@pytest.mark.parametrize("size", [100, 10_000])
def test_each_image_is_equally_likely_at_each_position(size):
    """Chi-squared tests over epochs, for the first, a middle and the last position."""
    epochs = 20 * size if size == 100 else 2_000
    shown = np.stack([order(size, 1, epoch) for epoch in range(epochs)])
    for position in (0, size // 3, size - 1):
        bins = shown[:, position] * 100 // size
        assert stats.chisquare(np.bincount(bins, minlength=100)).pvalue > 0.001


def test_an_order_has_no_simple_pattern():
    values = indices(0, 1000, 1000)
    assert len(np.unique(np.diff(values))) > 500
    assert abs(np.corrcoef(values, np.arange(1000))[0, 1]) < 0.15


@pytest.mark.parametrize("size", [1, 7, 20, 1000, 10_000])
@pytest.mark.parametrize("version", [1, 2])
def test_examples_are_the_same_in_every_call(size, version):
    """Far from the start, across epochs, in a graph whose start is a tensor."""
    first = 10**9 * size - 13
    expected = indices(first, 30, size, version=version)
    compiled = tf.function(lambda n: example_indices(n, 30, size, 5, version))
    found = compiled(tf.constant(first, tf.int64))
    assert found.dtype == tf.int64
    np.testing.assert_array_equal(found, expected)
    one_by_one = [indices(first + n, 1, size, version=version)[0] for n in range(30)]
    np.testing.assert_array_equal(one_by_one, expected)
