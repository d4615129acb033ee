"""Counter-based random numbers, determined by the example that they are for."""

import functools
import math
import statistics
from typing import NamedTuple

import numpy as np
import tensorflow as tf

LEVELS = 1 << 16  # number of values that a random number can take

# Offset between the streams of successive corruptions or augmentations.
NEXT_MEMBER = 1 << 40

_PHILOX = 1  # tf.random.Algorithm.PHILOX
_WORDS = 4  # Philox-4x32 gives four 32-bit words per counter value


class Key(NamedTuple):
    """Selects the random numbers of a batch, by int64 tensors.

    Different streams, scalars, are independent. Row i is the example `example + i`, or
    `example[i]` if that is a vector.
    """

    stream: tf.Tensor
    example: tf.Tensor

    def offset_by(self, offset: int) -> "Key":
        """The same examples, in the stream offset by `offset`."""
        return Key(self.stream + offset, self.example)


def random_bits(key: Key, rows: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Random 16-bit numbers: uint16 [rows, size], `rows` and `size` int32 scalars.

    Philox (Salmon et al. 2011) is a function of a key, here the stream, and a counter.
    The counter of each example begins where that of the previous example ends, so any
    rows of a batch come out the same in a call of their own.
    """
    if len(key.example.shape):

        def of_example(example: tf.Tensor) -> tf.Tensor:
            """The numbers of one example: uint16 [size]."""
            return random_bits(Key(key.stream, example), tf.constant(1), size)[0]

        return tf.map_fn(of_example, key.example, fn_output_signature=tf.uint16)
    counts = -(-size // (2 * _WORDS))  # a word holds two numbers
    counter = key.example * tf.cast(counts, tf.int64)
    words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[rows, counts * _WORDS],
        key=tf.cast(key.stream[tf.newaxis], tf.uint64),
        counter=tf.cast(tf.stack([counter, tf.zeros_like(counter)]), tf.uint64),
        alg=_PHILOX,
        dtype=tf.uint32,
    )
    numbers = tf.bitcast(words, tf.uint16)
    return tf.reshape(numbers, [rows, counts * 2 * _WORDS])[:, :size]


def bits_of(images: tf.Tensor, key: Key, border: int = 0, extra: int = 0) -> tf.Tensor:
    """A random 16-bit number for each value of [n, H, W, C]: uint16 [n, H * W * C].

    H and W are larger by `border` on each side, and there are `extra` more channels.
    """
    n, height, width, channels = tf.unstack(tf.shape(images))
    size = (height + 2 * border) * (width + 2 * border) * (channels + extra)
    return random_bits(key, n, size)


def uniform_table() -> np.ndarray:
    """Equally likely values between 0 and 1: float64 [65536], ascending."""
    return (np.arange(LEVELS) + 0.5) / LEVELS


@functools.cache
def normal_table() -> np.ndarray:
    """Equally likely values, nearly normally distributed: float64 [65536], ascending.

    The standard normal distribution is cut into 65,536 pieces of equal probability, and
    each value is the mean of a piece. The values are antisymmetric, with mean 0 and
    variance 1 - 4e-6. The distribution functions differ by at most 2**-17. The largest
    value is 4.38.
    """
    half = LEVELS // 2
    standard = statistics.NormalDist()
    edges = np.array([standard.inv_cdf(0.5 + i / LEVELS) for i in range(half)])
    density = np.append(np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi), 0.0)
    means = (density[:-1] - density[1:]) * LEVELS
    return np.concatenate([-means[::-1], means])
