"""Noise as in pictures of a camera: neighboring pixels and channels are correlated.

A camera measures one color per pixel and interpolates the others, so the noise of
adjacent pixels is correlated. If it interpolates linearly (a Bayer pattern, bilinear),
the correlation along rows and columns is 0.4 for green and 0.67 for red and blue. Many
methods interpolate differences of colors, over larger distances (for example Hamilton
and Adams 1997). So part of the noise is common to all channels, and color noise has
larger grains.

This is a simple model of such noise. White noise is smoothed by a kernel (side, center,
side) along rows and columns. In images of several channels, there is a common noise,
and one for each channel that is smoothed twice.

Integers have at most 29 bits, so their products with float32 numbers are exact in
float64. A sum of such products is rounded once, whether or not a compiler fuses it.
"""

import math

import numpy as np
import tensorflow as tf

from aelab.data.randomness import normal_table, uniform_table

_CENTER = 256
_UNIT = 128  # stands for 1 in white noise


def side_weight(correlation: float) -> int:
    """The weight at the sides of the kernel, for a correlation in (0, 0.7].

    A kernel (a, 1, a) gives 2 a / (1 + 2 a^2). The weight is rounded, and so the
    correlation is within 0.004 of the requested one.
    """
    ratio = (1 - math.sqrt(1 - 2 * correlation**2)) / (2 * correlation)
    return round(_CENTER * ratio)


def correlated_table(side: int) -> tuple[np.ndarray, float]:
    """White noise for `correlate`: int32 [65536], and its output's standard deviation.

    The output has at most 29 bits, so its product with a float32 is exact in float64.
    """
    table = np.rint(_UNIT * normal_table()).astype(np.int32)
    return table, float(_UNIT * (_CENTER**2 + 2 * side**2))


def channel_weights(side: int) -> np.ndarray:
    """Weights of common and own noise for `mix_channels`: float32 [65536, 2].

    In row i the common noise has (i + 1/2) / 65,536 of the variance after `correlate`,
    which is the same in all rows.
    """
    kernel = np.array([side, _CENTER, side], np.float64)
    once, twice = np.sum(kernel**2), np.sum(np.convolve(kernel, kernel) ** 2)
    shares = uniform_table()
    own = np.sqrt(1 - shares) * (once / twice)
    return np.stack([np.sqrt(shares), own], axis=1).astype(np.float32)


def mix_channels(white: tf.Tensor, side: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Noise for `correlate` that is partly common to all channels.

    Args:
      white: White noise, int32 [n, H + 4, W + 4, C + 1]; the last channel is common.
      side: int32 scalar, see `side_weight`.
      weights: float32 [n, 2], rows of `channel_weights`.

    Returns:
      int32 [n, H + 2, W + 2, C].
    """
    weights = tf.cast(weights, tf.float64)[:, tf.newaxis, tf.newaxis, :]
    own = tf.cast(correlate(white[..., :-1], side), tf.float64) * weights[..., 1:]
    common = tf.cast(white[:, 1:-1, 1:-1, -1:], tf.float64) * weights[..., :1]
    return tf.cast(tf.round(common + own), tf.int32)


def correlate(noise: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Smooths noise, int32 [n, H + 2, W + 2, C], to int32 [n, H, W, C].

    `side` is an int32 scalar, see `side_weight`.
    """
    noise = _CENTER * noise[:, 1:-1] + side * (noise[:, :-2] + noise[:, 2:])
    return _CENTER * noise[:, :, 1:-1] + side * (noise[:, :, :-2] + noise[:, :, 2:])
