import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from test_corruptions import KEY, corrupted, gray, smooth, to_floats

from aelab.config import Config
from aelab.data import gaussian as module
from aelab.data.corruptions import corrupt
from aelab.data.gaussian import gaussian
from aelab.data.randomness import normal_table, random_bits

CONFIG = Config(noise_stddev=0.5)


def test_noise_has_the_requested_moments():
    noise = corrupted(Config(noise_stddev=0.05), gray(2000)) - 0.5
    assert abs(noise.mean()) < 5 * 0.05 / np.sqrt(noise.size)
    assert abs(noise.std() / 0.05 - 1) < 5 / np.sqrt(2 * noise.size)
    assert abs((noise**4).mean() / 0.05**4 - 3) < 0.05
    assert abs((np.abs(noise) > 1.959964 * 0.05).mean() - 0.05) < 0.001


def bits_of(images, key, border=0, extra=0):
    count, height, width, channels = images.shape
    shape = (count, height + 2 * border, width + 2 * border, channels + extra)
    size = tf.constant(math.prod(shape[1:]))
    return random_bits(key, tf.constant(count), size).numpy().reshape(shape)


@pytest.mark.parametrize("corruption", [gaussian, corrupt])
def test_gaussian_is_the_sum_and_clipped_if_asked_for(corruption):
    """Bit for bit, so that no machine or compiler can round differently."""
    images = to_floats(smooth(10))
    noise = (0.5 * normal_table()).astype(np.float32)[bits_of(images, KEY)]
    expected = images.numpy() + noise
    unclipped = dataclasses.replace(CONFIG, noise_clip=False)
    np.testing.assert_array_equal(corruption(images, KEY, unclipped), expected)
    clipped = np.clip(expected, 0, 1)
    np.testing.assert_array_equal(corruption(images, KEY, CONFIG), clipped)


def test_gaussian_noise_of_level_zero_changes_nothing():
    config = dataclasses.replace(CONFIG, noise_stddev=0.0)
    np.testing.assert_array_equal(gaussian(gray(3), KEY, config), gray(3))


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 0.1), (0.04, 0.1), (0.1, 0.1)])
def test_levels_are_uniform_between_two(lowest, highest):
    """Kolmogorov-Smirnov test of the levels estimated from the images, at 1 %."""
    config = Config(noise_stddev=lowest, noise_stddev_max=highest)
    noise = corrupted(config, gray(1000, (40, 40, 1))) - 0.5
    found = np.sort(noise.std(axis=(1, 2, 3)))
    error = 5 / math.sqrt(2 * 1600)
    assert found[0] >= lowest * (1 - error) and found[-1] <= highest * (1 + error)
    if lowest < highest:
        expected = np.clip((found - lowest) / (highest - lowest), 0, 1)
        assert np.abs(expected - (np.arange(1000) + 0.5) / 1000).max() < 0.0515


def test_noise_of_drawn_levels_is_normal_and_independent_of_the_level():
    config = Config(noise_stddev=0.02, noise_stddev_max=0.1)
    noise = (corrupted(config, gray(1000)) - 0.5).reshape(1000, -1)
    levels = noise.std(axis=1)
    standard = noise / levels[:, np.newaxis]
    assert abs((standard**4).mean() - 3) < 0.05
    for column in (0, 400, 783):
        assert abs(np.corrcoef(levels, standard[:, column])[0, 1]) < 0.12
    assert abs(np.corrcoef(levels[1:], levels[:-1])[0, 1]) < 0.12


def test_noise_of_drawn_levels_is_rounded_once():
    """Bit for bit, whether or not a compiler fuses the product and the sum."""
    config = Config(noise_stddev=0.1, noise_stddev_max=0.7)
    images = to_floats(smooth(10))
    strength_key = KEY.offset_by(module._PER_IMAGE)
    drawn = random_bits(strength_key, tf.constant(10), tf.constant(1)).numpy()
    levels = np.float32(0.1 + 0.6 * (drawn + 0.5) / 65536).reshape(10, 1, 1, 1)
    noise = normal_table().astype(np.float32)[bits_of(images, KEY)]
    whole = images.numpy().astype(np.float64) + noise.astype(np.float64) * levels
    expected = np.clip(whole.astype(np.float32), 0, 1)
    np.testing.assert_array_equal(gaussian(images, KEY, config), expected)


@pytest.mark.parametrize("correlation", [0.1, 0.4, 0.55, 0.7])
def test_correlated_noise_has_the_requested_moments(correlation):
    """In each image, up to its border, and the same along rows and columns."""
    config = Config(noise_stddev=0.05, noise_correlation=correlation)
    noise = (corrupted(config, gray(2000, (24, 28, 1))) - 0.5)[..., 0] / 0.05
    assert abs(noise.mean()) < 0.01
    np.testing.assert_allclose(noise.std(axis=0), 1, atol=0.1)
    assert abs(noise.std() - 1) < 0.005
    assert abs((noise**4).mean() - 3) < 0.05
    for axis in (1, 2):
        first, second = (
            np.take(noise, np.arange(start, start + 20), axis) for start in (0, 1)
        )
        assert abs((first * second).mean() - correlation) < 0.01
    far = (
        (noise[:, 3:] * noise[:, :-3]).mean(),
        (noise[..., 3:] * noise[..., :-3]).mean(),
    )
    assert np.abs(far).max() < 0.01


def correlations(noise):
    """Of pixels one and two columns apart, and of rows: for [n, H, W]."""
    return [
        [(z[:, lag:] * z[:, :-lag]).mean() / (z**2).mean() for lag in (1, 2)]
        for z in (noise, noise.swapaxes(1, 2))
    ]


def test_noise_of_channels_has_a_common_part():
    """Its share differs from picture to picture; the rest has larger grains."""
    config = Config(noise_stddev=0.05, noise_correlation=0.55)
    noise = (corrupted(config, gray(400, (60, 60, 3))) - 0.5) / 0.05
    np.testing.assert_allclose(noise.std(axis=(0, 1, 2)), 1, atol=0.01)
    products = [(noise[..., i] * noise[..., i - 1]).mean(axis=(1, 2)) for i in range(3)]
    shares = np.mean(products, axis=0)
    np.testing.assert_allclose(np.quantile(shares, [0, 0.5, 1]), [0, 0.5, 1], atol=0.1)
    kernel = np.array([(1 - math.sqrt(1 - 2 * 0.55**2)) / 1.1, 1])
    kernel = np.append(kernel, kernel[0])
    common, color = noise[shares > 0.95].mean(axis=3), noise[..., 0] - noise[..., 1]
    for grains, k in ((common, kernel), (color, np.convolve(kernel, kernel))):
        expected = np.correlate(k, k, "full")[len(k) :][:2] / (k**2).sum()
        np.testing.assert_allclose(correlations(grains), [expected] * 2, atol=0.02)


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("highest", [0.0, 0.7])
@pytest.mark.parametrize("channels", [1, 3])
def test_correlated_noise_is_rounded_once(channels, highest, count):
    """Bit for bit: sums of integers, and exact products."""
    config = Config(noise_stddev=0.1, noise_stddev_max=highest, noise_correlation=0.5)
    images = to_floats(smooth(count, (12, 17, channels)))
    table = np.rint(128 * normal_table()).astype(np.int64)
    side = round(256 * (1 - math.sqrt(0.5)))  # 2 a / (1 + 2 a^2) is 1/2
    weights = np.array([side, 256, side])

    def smoothed(noise):
        height, width = noise.shape[1] - 2, noise.shape[2] - 2
        rows = sum(weights[i] * noise[:, i : i + height] for i in range(3))
        return sum(weights[i] * rows[:, :, i : i + width] for i in range(3))

    drawn = random_bits(
        KEY.offset_by(module._PER_IMAGE), tf.constant(count), tf.constant(2)
    ).numpy()
    level_parts, shares = (drawn.T + 0.5) / 65536
    if channels == 1:
        white = table[bits_of(images, KEY, 1)]
    else:
        both = table[bits_of(images, KEY, 2, 1)]
        shares = shares.reshape(-1, 1, 1, 1)
        common = both[:, 1:-1, 1:-1, -1:] * np.float32(np.sqrt(shares)).astype(float)
        twice = np.convolve(weights, weights)
        own = np.sqrt(1 - shares) * (weights**2).sum() / (twice**2).sum()
        own = smoothed(both[..., :-1]) * np.float32(own).astype(float)
        white = np.rint(common + own)
    noise = smoothed(white)
    assert np.abs(noise).max() < 2**29
    levels = 0.1 + 0.6 * level_parts if highest else np.full(count, 0.1)
    levels = np.float32(levels / (128 * (weights**2).sum()))
    whole = images.numpy().astype(np.float64) + noise * levels.reshape(-1, 1, 1, 1)
    expected = np.clip(whole.astype(np.float32), 0, 1)
    np.testing.assert_array_equal(gaussian(images, KEY, config), expected)
