"""Blind spots: noisy images whose masked pixels do not reveal their own values.

The input of Noise2Void (Krull et al. 2019). If the noise of pixels is independent and
has mean 0, a network that sees only the neighbors of a masked pixel can't predict its
noise, and so it learns the clean value.
"""

import itertools
from typing import NamedTuple

import tensorflow as tf

from aelab.data.randomness import LEVELS, Key, random_bits
from aelab.errors import UsageError

CELL = 4  # one pixel is masked in each cell of 4 x 4
_NEIGHBORS = [
    offset for offset in itertools.product((-1, 0, 1), repeat=2) if offset != (0, 0)
]


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

    So images of one size have the same number of masked pixels. A masked pixel is
    replaced, in each channel, by the median of its up to eight neighbors that are not
    masked (as in N2V2, Hoeck et al. 2022, who take a window of 5 x 5). Cells that the
    border cuts have no masked pixel, so each masked pixel has at least three such
    neighbors.

    Raises:
      UsageError: the images are smaller than a cell.
    """
    if min(size or CELL for size in noisy.shape[1:3]) < CELL:
        raise UsageError(
            f"--supervision=noise2void needs images of at least {CELL} x {CELL} pixels"
        )
    rows, height, width, channels = tf.unstack(tf.shape(noisy))
    down, right = height // CELL, width // CELL
    bits = tf.cast(random_bits(key, rows, down * right), tf.int32)
    place = tf.reshape(bits * CELL**2 // LEVELS, [rows, down, right])
    y = CELL * tf.range(down)[:, tf.newaxis] + place // CELL
    x = CELL * tf.range(right) + place % CELL
    spots = tf.reshape(tf.stack([y, x], axis=-1), [rows, -1, 2])
    image = tf.repeat(tf.range(rows), tf.shape(spots)[1])[:, tf.newaxis]
    where = tf.concat([image, tf.reshape(spots, [-1, 2])], axis=1)
    ones = tf.ones([tf.shape(where)[0], 1])
    mask = tf.scatter_nd(where, ones, [rows, height, width, 1])
    medians = tf.reshape(_medians(noisy, mask, spots), [-1, channels])
    masked = tf.tensor_scatter_nd_update(noisy, where, medians)
    return BlindSpots(masked, tf.ensure_shape(mask, [*noisy.shape[:3], 1]))


def _medians(noisy: tf.Tensor, mask: tf.Tensor, spots: tf.Tensor) -> tf.Tensor:
    """The medians of the neighbors of `spots`, int32 [n, m, 2]: float32 [n, m, C]."""
    far = noisy.dtype.max  # masked pixels, and those outside the image: sorted last
    hidden = tf.where(mask > 0, far, noisy)
    border = [[0, 0], [1, 1], [1, 1], [0, 0]]
    values = tf.pad(hidden, border, constant_values=far)
    rows, height, width, channels = tf.unstack(tf.shape(values))
    places = spots[:, :, tf.newaxis] + tf.constant(_NEIGHBORS) + 1
    places = places[..., 0] * width + places[..., 1]  # [n, m, neighbors]
    values = tf.reshape(values, [rows, height * width, channels])
    ordered = tf.sort(tf.gather(values, places, axis=1, batch_dims=1), axis=2)
    count = tf.math.count_nonzero(ordered[..., 0] < far, axis=2, dtype=tf.int32)
    middle = (count - 1) // 2, count // 2
    lower, upper = (tf.gather(ordered, m, axis=2, batch_dims=2) for m in middle)
    return (lower + upper) / 2
