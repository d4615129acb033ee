"""Pixels as bytes and as numbers in [0, 1]."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

LEVELS_PER_BYTE = 256

# Their difference is 1 / 255. The product of the first with a byte is exact.
_INVERSE = (257 / 2**16, -1 / (255 * 2**16))


def unit_table() -> np.ndarray:
    """`k / 255` for k from 0 to 255, correctly rounded: float32 [256]."""
    return (np.arange(LEVELS_PER_BYTE) / 255).astype(np.float32)


def to_unit(images: np.ndarray) -> np.ndarray:
    """uint8 or uint16 of any shape as float32 in [0, 1], correctly rounded."""
    if images.dtype == np.uint16:
        return (images / 65535).astype(np.float32)
    values: np.ndarray = unit_table()[images]
    return values


def unit_tensor(images: "tf.Tensor") -> "tf.Tensor":
    """uint8 or uint16 as float32 in [0, 1], with the same bits on every path.

    For uint8 it is `to_unit`, and for a uint16 value of the same share the same. A
    compiler turns a quotient by 255 into a product by its rounded inverse, which is
    wrong in the last bit of 126 values. It may also merge a sum with the addition of
    the noise, in another order, but not a difference.
    """
    import tensorflow as tf

    if images.dtype == tf.uint16:
        return tf.cast(tf.cast(images, tf.float64) * (1 / 65535), tf.float32)
    numbers, (high, low) = tf.cast(images, tf.float32), _INVERSE
    return numbers * high - numbers * low


def to_8_bits(images: np.ndarray) -> np.ndarray:
    """uint8 as they are, and uint16 as the nearest uint8 of the same share of white."""
    if images.dtype == np.uint8:
        return images
    wide = images.astype(np.uint32)
    rounded: np.ndarray = ((2 * wide + 257) // 514).astype(np.uint8)
    return rounded


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Floats, clamped to [0, 1], as the nearest uint8 in [0, 255]."""
    levels: np.ndarray = np.round(np.clip(images, 0.0, 1.0) * 255).astype(np.uint8)
    return levels
