"""Noise whose neighboring pixels are correlated.

A camera measures one color per pixel and interpolates the others, so the noise of
adjacent pixels is correlated. If it interpolates linearly (a Bayer pattern, bilinear),
the correlation along rows and columns is 0.4 for green and 0.67 for red and blue.

White noise is smoothed by a kernel (side, center, side) along rows and columns. The
numbers are integers, so that sums have no rounding which their order could change.
"""

import math

import numpy as np
import tensorflow as tf

from aelab.data.randomness import normal_table

_CENTER = 128
_UNIT = 1 << 10  # white noise of standard deviation 1


def side_weight(correlation: float) -> int:
    """The weight at the sides of the kernel, for a correlation in (0, 0.7].

    A kernel (a, 1, a) gives 2 a / (1 + 2 a^2).
    """
    share = (1 - math.sqrt(1 - 2 * correlation**2)) / (2 * correlation)
    return round(_CENTER * share)


def correlated_table(side: int) -> tuple[np.ndarray, float]:
    """White noise for `correlate`: int32 [65536], and the result's standard deviation.

    The result has at most 29 bits, so its product with a float32 is exact in float64.
    """
    table = np.rint(_UNIT * normal_table()).astype(np.int32)
    return table, float(_UNIT * (_CENTER**2 + 2 * side**2))


def correlate(noise: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Smooths white noise, int32 [n, H + 2, W + 2, C], to [n, H, W, C]."""
    noise = _CENTER * noise[:, 1:-1] + side * (noise[:, :-2] + noise[:, 2:])
    return _CENTER * noise[:, :, 1:-1] + side * (noise[:, :, :-2] + noise[:, :, 2:])
