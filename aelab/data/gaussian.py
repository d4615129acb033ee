"""The corruption by Gaussian noise; `corruptions.py` has the interface."""

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.data.correlation import (
    channel_weights,
    correlate,
    correlated_table,
    mix_channels,
    side_weight,
)
from aelab.data.one_pass import one_pass
from aelab.data.randomness import (
    Key,
    bits_of,
    normal_table,
    random_bits,
    uniform_table,
)

_PER_IMAGE = 1 << 62  # offset of the stream for draws once per image


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
    """Adds noise from a table, scaled by the level of each image, float32 [n, 1]."""
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    return _add_scaled(images, tf.reshape(noise, tf.shape(images)), stddevs, clip)


@one_pass
def _mix(
    images: tf.Tensor,
    bits: tf.Tensor,
    table: tf.Tensor,
    side: tf.Tensor,
    weights: tf.Tensor,
) -> tf.Tensor:
    """The noise for `_smooth_and_add` of several channels: int32 [n, H + 2, W + 2, C].

    A function of its own: in one with `correlate`, XLA would compute each value again
    for each of its neighbors.
    """
    n, height, width, channels = tf.unstack(tf.shape(images))
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    noise = tf.reshape(noise, [n, height + 4, width + 4, channels + 1])
    return mix_channels(noise, side, weights)


@one_pass
def _smooth_and_add(
    images: tf.Tensor, noise: tf.Tensor, side: tf.Tensor, stddevs: tf.Tensor, clip: bool
) -> tf.Tensor:
    """Adds noise, int32 [n, H + 2, W + 2, C], smoothed and scaled."""
    return _add_scaled(images, correlate(noise, side), stddevs, clip)


def _add_scaled(
    images: tf.Tensor, noise: tf.Tensor, stddevs: tf.Tensor, clip: bool
) -> tf.Tensor:
    """Adds noise, scaled by the level of each image, float32 [n, 1].

    The product is exact in float64, so fusing it with the sum changes nothing.
    """
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
    of a camera. In images of several channels, part of the noise is common to all
    channels. Its share of the variance is drawn for each image, uniformly from 0 to 1,
    because it differs between cameras. `correlation.py` describes this noise.
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
    stddevs = _stddevs(_per_image_bits(images, key), config, 1.0)
    return _scale_and_add(images, bits, table, stddevs, clip)


def _add_correlated(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    side = side_weight(config.noise_correlation)
    integers, unit = correlated_table(side)
    table, drawn = tf.constant(integers), _per_image_bits(images, key)
    if images.shape[-1] == 1:
        n, height, width, _ = tf.unstack(tf.shape(images))
        bits = tf.cast(bits_of(images, key, border=1), tf.int32)
        noise = tf.reshape(tf.gather(table, bits), [n, height + 2, width + 2, 1])
    else:
        bits = bits_of(images, key, border=2, extra=1)
        weights = tf.gather(tf.constant(channel_weights(side)), drawn[:, 1])
        noise = _mix(images, bits, table, tf.constant(side), weights)
    stddevs = _stddevs(drawn, config, unit)
    return _smooth_and_add(images, noise, tf.constant(side), stddevs, config.noise_clip)


def _stddevs(drawn: tf.Tensor, config: Config, unit: float) -> tf.Tensor:
    """The noise level of each image, in multiples of `unit`: float32 [n, 1]."""
    lowest, highest = config.noise_stddev, config.noise_stddev_max
    if highest == 0:
        return tf.fill([tf.shape(drawn)[0], 1], np.float32(lowest / unit))
    levels = (lowest + (highest - lowest) * uniform_table()) / unit
    return tf.gather(tf.constant(levels, tf.float32), drawn[:, :1])


def _per_image_bits(images: tf.Tensor, key: Key) -> tf.Tensor:
    """Two 16-bit numbers per image, for level and common noise: int32 [n, 2]."""
    bits = random_bits(key.offset_by(_PER_IMAGE), tf.shape(images)[0], tf.constant(2))
    return tf.cast(bits, tf.int32)
