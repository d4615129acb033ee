"""Noise whose neighboring pixels are correlated.

A camera measures one color per pixel and interpolates the others, so the noise of
adjacent pixels is correlated. If it interpolates linearly (a Bayer pattern, bilinear),
the correlation along rows and columns is 0.4 for green and 0.67 for red and blue. Here
all channels have the same correlation, and are independent of each other.

White noise is smoothed by a kernel (side, center, side) along rows and columns. All
numbers are integers, so their sums are exact in any order.
"""

import math

import numpy as np
import tensorflow as tf

from aelab.data.randomness import normal_table

_CENTER = 256
_UNIT = 256  # stands for 1 in white noise


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


def correlate(noise: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Smooths white noise, int32 [n, H + 2, W + 2, C], to int32 [n, H, W, C].

    `side` is an int32 scalar, see `side_weight`.
    """
    noise = _CENTER * noise[:, 1:-1] + side * (noise[:, :-2] + noise[:, 2:])
    return _CENTER * noise[:, :, 1:-1] + side * (noise[:, :, :-2] + noise[:, :, 2:])
