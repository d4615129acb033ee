"""What is done to an image before the model sees it, by name.

A corruption is a pure function `(images, key, config) -> images` of float32
[n, H, W, C] in [0, 1]. All that is random in it comes from `key`, so an example is
corrupted in the same way whatever batch, replica, thread or process makes it.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from aelab.config import Config

_PHILOX = 1  # tf.random.Algorithm.PHILOX
_VALUES_A_COUNT = 4  # Philox-4x32 gives four 32-bit words for each counter value


class Key(NamedTuple):
    """Where the randomness of a batch comes from.

    Attributes:
      stream: int64 scalar; different streams are independent.
      first_example: int64 scalar, the number of the batch's first example; example
        `first_example + i` is row i.
    """

    stream: tf.Tensor
    first_example: tf.Tensor


def normal(key: Key, shape: tf.Tensor) -> tf.Tensor:
    """Standard normal numbers, a function of (stream, example number) alone.

    Philox (Salmon et al. 2011) is a function of a key and a counter. The counter of
    each example begins where that of the one before it ends, so that one call makes a
    whole batch, and any run of rows of it is the same numbers in a call of its own.

    Args:
      key: which numbers.
      shape: int32 [r], the shape of the result, examples first.

    Returns:
      float32 tensor of that shape.
    """
    size = tf.reduce_prod(shape[1:])
    counts = -(-size // _VALUES_A_COUNT)
    counter = key.first_example * tf.cast(counts, tf.int64)
    values = tf.raw_ops.StatelessRandomNormalV2(
        shape=[shape[0], counts * _VALUES_A_COUNT],
        key=tf.cast(key.stream[tf.newaxis], tf.uint64),
        counter=tf.cast(tf.stack([counter, tf.zeros_like(counter)]), tf.uint64),
        alg=_PHILOX,
    )
    return tf.reshape(values[:, :size], shape)


def gaussian(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Adds Gaussian noise of `noise_stddev` and clips to [0, 1].

    The corruption of the denoising autoencoder's textbook example; denoising
    autoencoders: Vincent et al. 2008.
    """
    if config.noise_stddev == 0:
        return images
    noise = normal(key, tf.shape(images))
    return tf.clip_by_value(images + config.noise_stddev * noise, 0.0, 1.0)


Corruption = Callable[[tf.Tensor, Key, Config], tf.Tensor]
CORRUPTIONS: dict[str, Corruption] = {"gaussian": gaussian}
