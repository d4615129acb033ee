import statistics

import numpy as np
import pytest
import tensorflow as tf
from philox import philox

from aelab.data.randomness import Key, normal_table, random_bits


def key(stream=7, first_example=0):
    return Key(tf.constant(stream, tf.int64), tf.constant(first_example, tf.int64))


def bits(key, rows, size):
    return random_bits(key, tf.constant(rows), tf.constant(size)).numpy()


def test_bits_come_from_philox():
    got = bits(key(stream=(3 << 32) + 5, first_example=1000), 6, 20)
    words = philox((3 << 32) + 5, 1000 * 3 + np.arange(18))
    expected = words.astype("<u4").view("<u2").reshape(6, 24)[:, :20]
    np.testing.assert_array_equal(got, expected)


def test_the_table_is_the_normal_distribution():
    """Compared with quantiles and moments from formulas that the table does not use."""
    table = normal_table()
    np.testing.assert_array_equal(table, -table[::-1])
    assert (np.diff(table) > 0).all()
    assert abs((table**2).mean() - 1) < 1e-5
    assert abs((table**4).mean() - 3) < 2e-3
    middle = np.array([statistics.NormalDist().cdf(value) for value in table[::97]])
    expected = (np.arange(0, 65536, 97) + 0.5) / 65536
    np.testing.assert_allclose(middle, expected, atol=2**-17)
    assert 4.3 < table[-1] < 4.4


@pytest.mark.parametrize("size", [784, 105, 3])
@pytest.mark.parametrize(("first", "count"), [(0, 40), (3, 5), (39, 1), (16, 16)])
def test_any_run_of_examples_is_a_slice_of_the_whole(size, first, count):
    whole = bits(key(), 40, size)
    np.testing.assert_array_equal(
        bits(key(first_example=first), count, size), whole[first : first + count]
    )


def test_slices_agree_when_tensorflow_uses_several_threads():
    whole = bits(key(), 6000, 784)
    np.testing.assert_array_equal(
        bits(key(first_example=5000), 1000, 784), whole[5000:]
    )


def test_slices_of_distant_examples_agree():
    far = 10**15
    whole = bits(key(first_example=far), 8, 784)
    np.testing.assert_array_equal(bits(key(first_example=far + 3), 2, 784), whole[3:5])


def test_examples_in_any_order_have_their_own_numbers():
    whole, order = bits(key(), 40, 105), [7, 0, 39, 7]
    one_by_one = Key(key().stream, tf.constant(order, tf.int64))
    np.testing.assert_array_equal(bits(one_by_one, 4, 105), whole[order])


@pytest.mark.parametrize(
    "other",
    [
        key(stream=8),
        key(first_example=10),
        key().offset_by(1),
        key().offset_by(1 << 62),
    ],
)
def test_streams_and_examples_are_uncorrelated(other):
    one, two = bits(key(), 10, 784), bits(other, 10, 784)
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05


def test_an_offset_key_is_the_key_of_another_stream():
    offset = (5 << 40) + (1 << 62)
    np.testing.assert_array_equal(
        bits(key(first_example=3).offset_by(offset), 4, 20),
        bits(key(stream=7 + offset, first_example=3), 4, 20),
    )
