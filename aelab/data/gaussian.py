"""The corruption by Gaussian noise; `corruptions.py` has the interface."""

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.data.correlation import correlate, correlated_table, side_weight
from aelab.data.one_pass import one_pass
from aelab.data.randomness import LEVELS, Key, bits_of, normal_table, random_bits

_STDDEVS = 1 << 62  # offset of the stream that noise levels are drawn from


@one_pass
def _add(images: tf.Tensor, bits: tf.Tensor, table: tf.Tensor, clip: bool) -> tf.Tensor:
    """Adds noise from a table, in one pass. Without XLA the numbers are the same."""
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    noisy = images + tf.reshape(noise, tf.shape(images))
    return tf.clip_by_value(noisy, 0.0, 1.0) if clip else noisy


@one_pass
def _scale_and_add(
    images: tf.Tensor,
    bits: tf.Tensor,
    table: tf.Tensor,
    stddevs: tf.Tensor,
    side: tf.Tensor | None,
    clip: bool,
) -> tf.Tensor:
    """Adds noise from a table, scaled by the level of each image, float32 [n, 1].

    With `side` the noise is correlated, and `bits` have a border of one pixel. The
    product is exact in float64, so fusing it with the sum changes nothing.
    """
    n, height, width, channels = tf.unstack(tf.shape(images))
    border = 0 if side is None else 2
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    noise = tf.reshape(noise, [n, height + border, width + border, channels])
    if side is not None:
        noise = correlate(noise, side)
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
    `correlation.py`.
    """
    lowest, highest = config.noise_stddev, config.noise_stddev_max
    if lowest == highest == 0:
        return images
    clip, correlation = config.noise_clip, config.noise_correlation
    if correlation:
        side = side_weight(correlation)
        integers, unit = correlated_table(side)
        bits, table = bits_of(images, key, border=1), tf.constant(integers)
        stddevs = _stddevs(images, key, config, unit)
        return _scale_and_add(images, bits, table, stddevs, tf.constant(side), clip)
    bits = bits_of(images, key)
    if highest == 0:
        table = tf.constant(lowest * normal_table(), tf.float32)
        return _add(images, bits, table, clip)
    table = tf.constant(normal_table(), tf.float32)
    stddevs = _stddevs(images, key, config, 1.0)
    return _scale_and_add(images, bits, table, stddevs, None, clip)


def _stddevs(images: tf.Tensor, key: Key, config: Config, unit: float) -> tf.Tensor:
    """The noise level of each image, in multiples of `unit`: float32 [n, 1]."""
    lowest, highest = config.noise_stddev, config.noise_stddev_max
    rows = tf.shape(images)[0]
    if highest == 0:
        return tf.fill([rows, 1], np.float32(lowest / unit))
    parts = (np.arange(LEVELS) + 0.5) / LEVELS
    levels = tf.constant((lowest + (highest - lowest) * parts) / unit, tf.float32)
    drawn = random_bits(key.offset_by(_STDDEVS), rows, tf.constant(1))
    return tf.gather(levels, tf.cast(drawn, tf.int32))
