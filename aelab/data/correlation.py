"""Noise as in pictures of a camera: neighboring pixels and channels are correlated.

A camera measures one color per pixel and interpolates the others, so the noise of
adjacent pixels is correlated. If it interpolates linearly (a Bayer pattern, bilinear),
the correlation along rows and columns is 0.4 for green and 0.67 for red and blue.
Cameras interpolate color over larger distances than brightness, so noise of color has
larger grains, and a part of the noise is common to all channels.

Here white noise is smoothed by a kernel (side, center, side) along rows and columns.
The noise of a color picture has a part that is common to all channels, and one part for
each channel that is smoothed twice. The first factors of products have at most 29 bits,
so all sums and products are exact, and a compiler cannot change them.
"""

import math

import numpy as np
import tensorflow as tf

from aelab.data.randomness import LEVELS, normal_table

_CENTER = 256
_UNIT = 128  # stands for 1 in white noise


def side_weight(correlation: float) -> int:
    """The weight at the sides of the kernel, for a correlation in (0, 0.7].

    A kernel (a, 1, a) gives 2 a / (1 + 2 a^2). The weight is rounded, and so the
    correlation is within 0.004 of the requested one.
    """
    share = (1 - math.sqrt(1 - 2 * correlation**2)) / (2 * correlation)
    return round(_CENTER * share)


def correlated_table(side: int) -> tuple[np.ndarray, float]:
    """White noise for `correlate`: int32 [65536], and its output's standard deviation.

    The output has at most 29 bits, so its product with a float32 is exact in float64.
    """
    table = np.rint(_UNIT * normal_table()).astype(np.int32)
    return table, float(_UNIT * (_CENTER**2 + 2 * side**2))


def share_table(side: int) -> np.ndarray:
    """Weights of common and own noise for `mix`: float32 [65536, 2].

    The common noise's part of the variance goes from 0 to 1. Whatever it is, the
    variance of the smoothed sum is the same.
    """
    kernel = np.array([side, _CENTER, side], np.float64)
    once, twice = np.sum(kernel**2), np.sum(np.convolve(kernel, kernel) ** 2)
    parts = (np.arange(LEVELS) + 0.5) / LEVELS
    return np.sqrt(np.stack([parts, (1 - parts) * (once / twice) ** 2], axis=1)).astype(
        np.float32
    )


def mix(white: tf.Tensor, side: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Noise for `correlate` that is partly common to all channels.

    Args:
      white: White noise, int32 [n, H + 4, W + 4, C + 1]; the last channel is common.
      side: int32 scalar, see `side_weight`.
      weights: float32 [n, 2], rows of `share_table`.

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
