"""Blind spots: noisy images whose masked pixels do not reveal their own values.

The input of Noise2Void (Krull et al. 2019). If the noise of pixels is independent and
has mean 0, a network that sees only the neighbors of a masked pixel can't predict its
noise, and so it learns the clean value.
"""

import itertools
from typing import NamedTuple

import tensorflow as tf

from aelab.data.randomness import LEVELS, Key, random_bits

CELL = 4  # one pixel is masked in each cell of 4 x 4, or what the border leaves of it
_RADIUS = 2  # the neighbors of a pixel are the others in 5 x 5
_OFFSETS = [
    offset
    for offset in itertools.product(range(-_RADIUS, _RADIUS + 1), repeat=2)
    if offset != (0, 0)
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
    replaced by the median of its neighbors within the image that are not masked (as in
    N2V2, Hoeck et al. 2022), of each channel.
    """
    rows, height, width, channels = tf.unstack(tf.shape(noisy))
    tops, lefts = tf.range(0, height, CELL), tf.range(0, width, CELL)
    bits = random_bits(key, rows, tf.size(tops) * tf.size(lefts))
    place = tf.cast(bits, tf.int32) * CELL**2 // LEVELS
    cells = tf.reshape(place, [rows, tf.size(tops), tf.size(lefts)])
    y = _within(tops[:, tf.newaxis], cells // CELL, height)
    x = _within(lefts, cells % CELL, width)
    spots = tf.reshape(tf.stack([y, x], axis=-1), [rows, -1, 2])
    image = tf.repeat(tf.range(rows), tf.shape(spots)[1])[:, tf.newaxis]
    where = tf.concat([image, tf.reshape(spots, [-1, 2])], axis=1)
    ones = tf.ones([tf.shape(where)[0], 1])
    mask = tf.scatter_nd(where, ones, [rows, height, width, 1])
    medians = tf.reshape(_medians(noisy, mask, spots), [-1, channels])
    masked = tf.tensor_scatter_nd_update(noisy, where, medians)
    return BlindSpots(masked, tf.ensure_shape(mask, [*noisy.shape[:3], 1]))


def _within(start: tf.Tensor, offset: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """`start + offset`, the offset scaled down in a cell that the border cuts."""
    return start + offset * tf.minimum(CELL, size - start) // CELL


def _medians(noisy: tf.Tensor, mask: tf.Tensor, spots: tf.Tensor) -> tf.Tensor:
    """The medians of the neighbors of `spots`, int32 [n, m, 2]: float32 [n, m, C]."""
    far = noisy.dtype.max  # masked pixels, and those outside the image: sorted last
    border = [[0, 0], [_RADIUS, _RADIUS + CELL], [_RADIUS, _RADIUS + CELL], [0, 0]]
    hidden = tf.where(mask > 0, far, noisy)
    values = tf.pad(hidden, border, constant_values=far)
    rows, height, width, channels = tf.unstack(tf.shape(values))
    places = spots[:, :, tf.newaxis] + tf.constant(_OFFSETS) + _RADIUS
    places = places[..., 0] * width + places[..., 1]  # [n, m, neighbors]
    values = tf.reshape(values, [rows, height * width, channels])
    ordered = tf.sort(tf.gather(values, places, axis=1, batch_dims=1), axis=2)
    count = tf.math.count_nonzero(ordered[..., 0] < far, axis=2, dtype=tf.int32)
    middle = tf.maximum(count - 1, 0) // 2, count // 2
    lower, upper = (tf.gather(ordered, m, axis=2, batch_dims=2) for m in middle)
    return (lower + upper) / 2
