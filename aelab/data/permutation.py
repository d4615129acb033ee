"""The order in which training shows the images of a source."""

import tensorflow as tf

_STREAM = 1
_ROUNDS = 4


def example_indices(first: tf.Tensor, count: int, size: int, seed: int) -> tf.Tensor:
    """The images that `count` examples show: int64 [count] in [0, size).

    The examples are those from number `first` (int or int64 scalar) on. Each epoch has
    its own permutation of the source's `size` images. Positions are computed one at a
    time and never stored (RandomIndexShuffle: a Feistel-like cipher, cycle walking).
    """
    examples = first + tf.range(count, dtype=tf.int64)
    epochs = tf.cast(examples // size, tf.int32)
    parts = [tf.fill([count], seed), epochs, tf.fill([count], _STREAM)]
    return tf.raw_ops.RandomIndexShuffle(
        index=examples % size,
        seed=tf.stack(parts, axis=1),
        max_index=tf.fill([count], tf.constant(size - 1, tf.int64)),
        rounds=_ROUNDS,
    )
