"""Random numbers that are a function of what they are for, and of nothing else."""

import functools
import math
import statistics
from typing import NamedTuple

import numpy as np
import tensorflow as tf

LEVELS = 1 << 16  # how many values a random number has

_PHILOX = 1  # tf.random.Algorithm.PHILOX
_WORDS_PER_COUNT = 4  # Philox-4x32 gives four 32-bit words for each counter value,
_NUMBERS_PER_COUNT = 8  # which are eight numbers of 16 bits


class Key(NamedTuple):
    """Where the randomness of a batch comes from.

    Attributes:
      stream: int64 scalar; different streams are independent.
      first_example: int64 scalar, the number of the batch's first example; example
        `first_example + i` is row i.
    """

    stream: tf.Tensor
    first_example: tf.Tensor

    def offset_by(self, offset: int) -> "Key":
        """The same examples in the stream that is `offset` further on."""
        return Key(self.stream + offset, self.first_example)


def random_bits(key: Key, rows: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Random 16-bit numbers, a function of (stream, example number) alone.

    Philox (Salmon et al. 2011) is a function of a key and a counter. The counter of
    each example begins where that of the one before it ends, so that one call makes a
    whole batch, and any run of rows of it is the same numbers in a call of its own.

    Args:
      key: which numbers.
      rows: int32 scalar, how many examples.
      size: int32 scalar, how many numbers for each.

    Returns:
      uint16 [rows, size].
    """
    counts = -(-size // _NUMBERS_PER_COUNT)
    counter = key.first_example * tf.cast(counts, tf.int64)
    words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[rows, counts * _WORDS_PER_COUNT],
        key=tf.cast(key.stream[tf.newaxis], tf.uint64),
        counter=tf.cast(tf.stack([counter, tf.zeros_like(counter)]), tf.uint64),
        alg=_PHILOX,
        dtype=tf.uint32,
    )
    numbers = tf.bitcast(words, tf.uint16)
    return tf.reshape(numbers, [rows, counts * _NUMBERS_PER_COUNT])[:, :size]


@functools.cache
def normal_table() -> np.ndarray:
    """65,536 equally likely values that stand for the standard normal distribution.

    The distribution is cut in 65,536 pieces of equal probability; each value is the
    mean of a piece, so their mean is 0 and their variance 1 - 4e-6. The distance of the
    distribution functions is 2**-17 at most, and the largest value 4.38.

    Returns:
      float64 [65536], ascending, antisymmetric.
    """
    half = LEVELS // 2
    standard = statistics.NormalDist()
    edges = np.array([standard.inv_cdf(0.5 + i / LEVELS) for i in range(half)])
    density = np.append(np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi), 0.0)
    means = (density[:-1] - density[1:]) * LEVELS
    return np.concatenate([-means[::-1], means])
