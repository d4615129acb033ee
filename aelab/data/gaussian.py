"""The corruption by Gaussian noise; `corruptions.py` has the interface."""

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.data.correlation import (
    correlate,
    correlated_table,
    mix,
    share_table,
    side_weight,
)
from aelab.data.one_pass import one_pass
from aelab.data.randomness import LEVELS, Key, bits_of, normal_table, random_bits

_PER_IMAGE = 1 << 62  # offset of the stream of what is drawn once per image


@one_pass
def _add(images: tf.Tensor, bits: tf.Tensor, table: tf.Tensor, clip: bool) -> tf.Tensor:
    """Adds noise from a table, in one pass. Without XLA the numbers are the same."""
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    noisy = images + tf.reshape(noise, tf.shape(images))
    return tf.clip_by_value(noisy, 0.0, 1.0) if clip else noisy


@one_pass
def _scale_and_add(
    images: tf.Tensor, bits: tf.Tensor, table: tf.Tensor, stddevs: tf.Tensor, clip: bool
) -> tf.Tensor:
    """Adds noise from a table, scaled by the level of each image, float32 [n, 1].

    The product is exact in float64, so fusing it with the sum changes nothing.
    """
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    return _add_scaled(images, tf.reshape(noise, tf.shape(images)), stddevs, clip)


@one_pass
def _correlate_and_add(
    images: tf.Tensor,
    bits: tf.Tensor,
    table: tf.Tensor,
    stddevs: tf.Tensor,
    side: tf.Tensor,
    weights: tf.Tensor | None,
    clip: bool,
) -> tf.Tensor:
    """Like `_scale_and_add`, with correlated noise, see `correlation.py`.

    `bits` have a border of one pixel; with `weights`, of two pixels, and one channel
    more than the images.
    """
    n, height, width, channels = tf.unstack(tf.shape(images))
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    if weights is None:
        noise = tf.reshape(noise, [n, height + 2, width + 2, channels])
    else:
        noise = tf.reshape(noise, [n, height + 4, width + 4, channels + 1])
        noise = mix(noise, side, weights)
    return _add_scaled(images, correlate(noise, side), stddevs, clip)


def _add_scaled(
    images: tf.Tensor, noise: tf.Tensor, stddevs: tf.Tensor, clip: bool
) -> tf.Tensor:
    scales = tf.cast(stddevs, tf.float64)[:, tf.newaxis, tf.newaxis]
    noisy = tf.cast(images, tf.float64) + tf.cast(noise, tf.float64) * scales
    noisy = tf.cast(noisy, tf.float32)
    return tf.clip_by_value(noisy, 0.0, 1.0) if clip else noisy


def gaussian(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Adds Gaussian noise of `noise_stddev`, and clips to [0, 1] with `noise_clip`.

    Clipped, it is the usual corruption of denoising autoencoders (Vincent et al. 2010).
    The literature on denoising does not clip, for example Zhang et al. 2017. Without
    correlation each noise value is one of 65,536, see `normal_table`. To look up, add
    and clip them takes a quarter of the time of `tf.random.stateless_normal`.

    With `noise_stddev_max` each image has its own level, uniform between the two and
    one of 65,536 values. One model then learns to remove noise of unknown level
    ("blind" denoising, like DnCNN-B of Zhang et al. 2017).

    With `noise_correlation` the noise of adjacent pixels is correlated, as in pictures
    of a camera. Each value is then a weighted sum of nine values from a table, see
    `correlation.py`. In pictures of several channels a part of the noise is common to
    all channels. Its share of the variance is drawn for each image, uniformly from 0
    to 1.
    """
    lowest, highest = config.noise_stddev, config.noise_stddev_max
    if lowest == highest == 0:
        return images
    if config.noise_correlation:
        return _add_correlated(images, key, config)
    bits, clip = bits_of(images, key), config.noise_clip
    if highest == 0:
        table = tf.constant(lowest * normal_table(), tf.float32)
        return _add(images, bits, table, clip)
    table = tf.constant(normal_table(), tf.float32)
    stddevs = _stddevs(images, key, config, 1.0)
    return _scale_and_add(images, bits, table, stddevs, clip)


def _add_correlated(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    side = side_weight(config.noise_correlation)
    table, unit = correlated_table(side)
    if images.shape[-1] == 1:
        bits, weights = bits_of(images, key, border=1), None
    else:
        bits = bits_of(images, key, border=2, extra=1)
        weights = tf.gather(tf.constant(share_table(side)), _drawn(images, key)[:, 1])
    stddevs = _stddevs(images, key, config, unit)
    table, side, clip = tf.constant(table), tf.constant(side), config.noise_clip
    return _correlate_and_add(images, bits, table, stddevs, side, weights, clip)


def _stddevs(images: tf.Tensor, key: Key, config: Config, unit: float) -> tf.Tensor:
    """The noise level of each image, in multiples of `unit`: float32 [n, 1]."""
    lowest, highest = config.noise_stddev, config.noise_stddev_max
    if highest == 0:
        return tf.fill([tf.shape(images)[0], 1], np.float32(lowest / unit))
    parts = (np.arange(LEVELS) + 0.5) / LEVELS
    levels = tf.constant((lowest + (highest - lowest) * parts) / unit, tf.float32)
    return tf.gather(levels, _drawn(images, key)[:, :1])


def _drawn(images: tf.Tensor, key: Key) -> tf.Tensor:
    """For each image, a random number for its level and one for the common noise.

    int32 [n, 2], below 65,536.
    """
    drawn = random_bits(key.offset_by(_PER_IMAGE), tf.shape(images)[0], tf.constant(2))
    return tf.cast(drawn, tf.int32)
