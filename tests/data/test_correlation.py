import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import correlate1d

from aelab.config import FIELDS
from aelab.data.correlation import (
    channel_weights,
    correlate,
    correlated_table,
    mix_channels,
    side_weight,
)

HIGHEST = FIELDS["noise_correlation"].metadata["maximum"]


@pytest.mark.parametrize("correlation", [0.01, 0.05, 0.3, 0.5, HIGHEST])
def test_the_kernel_has_the_requested_correlation(correlation):
    kernel = np.array([side_weight(correlation), 256, side_weight(correlation)])
    whole = np.correlate(kernel, kernel, "full")
    assert whole[3] / whole[2] == pytest.approx(correlation, abs=0.004)


@pytest.mark.parametrize("correlation", [0.1, HIGHEST])
def test_the_result_has_29_bits_and_the_given_standard_deviation(correlation):
    side = side_weight(correlation)
    table, stddev = correlated_table(side)
    assert table.dtype == np.int32 and len(table) == 65536
    assert int(np.abs(table).max()) * (256 + 2 * side) ** 2 < 2**29
    kernel = np.array([side, 256, side])
    assert stddev == pytest.approx((kernel**2).sum() * table.std(), rel=1e-4)


def test_mixed_noise_also_has_29_bits():
    """Where all values are the largest, whatever share is common."""
    side = side_weight(HIGHEST)
    weights = channel_weights(side)[::64]
    largest = int(correlated_table(side)[0].max())
    white, side = tf.fill([len(weights), 5, 5, 4], largest), tf.constant(side)
    noise = correlate(mix_channels(white, side, weights), side)
    assert 2**28 < int(tf.reduce_max(noise)) < 2**29


@pytest.mark.parametrize("correlation", [0.01, 0.3, HIGHEST])
def test_the_variance_does_not_depend_on_the_common_share(correlation):
    kernel = np.array([side_weight(correlation), 256, side_weight(correlation)])
    once, twice = ((k**2).sum() for k in (kernel, np.convolve(kernel, kernel)))
    common, own = channel_weights(side_weight(correlation)).astype(np.float64).T
    np.testing.assert_allclose((common * once) ** 2 + (own * twice) ** 2, once**2, 1e-6)
    np.testing.assert_allclose(common**2, (np.arange(65536) + 0.5) / 65536, 1e-6)


def test_sums_along_rows_and_columns_are_those_of_scipy():
    noise = np.random.default_rng(0).integers(-1120, 1120, (2, 9, 12, 3), np.int32)
    expected = noise
    for axis in (1, 2):
        expected = correlate1d(expected, [80, 256, 80], axis, mode="constant")
    found = correlate(tf.constant(noise), tf.constant(80))
    np.testing.assert_array_equal(found, expected[:, 1:-1, 1:-1])
