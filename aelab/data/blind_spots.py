"""Blind spots: noisy images whose masked pixels do not reveal their own values.

The input of Noise2Void (Krull et al. 2019). If the noise of pixels is independent and
has mean 0, a network that sees only the neighbors of a masked pixel can't predict its
noise, and so it learns the clean value.
"""

from typing import NamedTuple

import tensorflow as tf

from aelab.data.randomness import LEVELS, Key, random_bits

CELL = 4  # one pixel is masked in each cell of 4 x 4


class BlindSpots(NamedTuple):
    """Images to train on, and where.

    Attributes:
      masked: float32 [n, H, W, C], the input: masked pixels are replaced.
      mask: float32 [n, H, W, 1], 1 for masked pixels and 0 for the others.
    """

    masked: tf.Tensor
    mask: tf.Tensor


def blind_spots(noisy: tf.Tensor, key: Key) -> BlindSpots:
    """Masks a random pixel in each cell of noisy images, float32 [n, H, W, C].

    So images of one size have the same number of masked pixels. A masked pixel becomes,
    in each channel, a weighted mean of its neighbors that are not masked (as in
    Noise2Self, Batson and Royer 2019). Neighbors that share an edge count twice, and
    those at the corners once. Each masked pixel has at least three such neighbors,
    because cells that the border cuts have no masked pixel.
    """
    mask = tf.ensure_shape(_masks(noisy, key), [*noisy.shape[:3], 1])
    return BlindSpots(tf.where(mask > 0, _means_of_neighbors(noisy, mask), noisy), mask)


def _masks(images: tf.Tensor, key: Key) -> tf.Tensor:
    """1 for a random pixel in each cell, else 0: float32 [n, H, W, 1].

    Only the shape of the images counts.
    """
    rows, height, width, _ = tf.unstack(tf.shape(images))
    down, right = height // CELL, width // CELL
    bits = tf.cast(random_bits(key, rows, down * right), tf.int32)
    cells = tf.one_hot(bits * CELL**2 // LEVELS, CELL**2)
    cells = tf.reshape(cells, [rows, down, right, CELL, CELL])
    cells = tf.transpose(cells, [0, 1, 3, 2, 4])
    mask = tf.reshape(cells, [rows, CELL * down, CELL * right, 1])
    rest = [[0, height - CELL * down], [0, width - CELL * right]]
    return tf.pad(mask, [[0, 0], *rest, [0, 0]])


def _means_of_neighbors(noisy: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """For each pixel the mean of its neighbors that are not masked: [n, H, W, C].

    The sums are in float64, because TensorFlow may add in another order in a batch of
    one image, and then the mean would differ in the last bit of float32.
    """
    usable = tf.cast(1.0 - mask, tf.float64)
    border = [[0, 0], [1, 1], [1, 1], [0, 0]]
    values = tf.pad(tf.cast(noisy, tf.float64) * usable, border)
    means = _sum_of_neighbors(values) / _sum_of_neighbors(tf.pad(usable, border))
    return tf.cast(means, tf.float32)


def _sum_of_neighbors(values: tf.Tensor) -> tf.Tensor:
    """From [n, H + 2, W + 2, C] to [n, H, W, C]; sides count twice, corners once."""
    rows = values[:, :-2] + values[:, 2:]  # above and below
    corners = rows[:, :, :-2] + rows[:, :, 2:]
    sides = values[:, 1:-1, :-2] + values[:, 1:-1, 2:] + rows[:, :, 1:-1]
    return corners + 2.0 * sides
