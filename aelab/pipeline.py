"""The input: a batch is a function of the step, and nothing else.

A run counts examples. Example g is image `permutation(g mod N)` of epoch `g // N`, and
carries the noise of example g. So every epoch shows each image once, every batch is
full, batches run across the borders of epochs, and to resume at step k is to begin at
example k * batch_size: there is no state to save.
"""

import tensorflow as tf

from aelab.config import Config
from aelab.corruptions import CORRUPTIONS, Key
from aelab.sources import Source

# One integer seeds all; these keep what follows from it apart.
_SHUFFLE_STREAM = 1
_TRAIN_NOISE_STREAM = 1 << 32
_EVAL_NOISE_STREAM = 2 << 32

_SHUFFLE_ROUNDS = 4


def example_indices(
    first_example: tf.Tensor, count: int, size: int, seed: int
) -> tf.Tensor:
    """Which images the examples from `first_example` on show.

    Each epoch has a permutation of its own, computed one position at a time and never
    stored (RandomIndexShuffle: a Feistel-like cipher with cycle walking).

    Args:
      first_example: int64 scalar.
      count: how many examples.
      size: number of images in the source, N.
      seed: the run's seed.

    Returns:
      int64 [count] in [0, size).
    """
    examples = first_example + tf.range(count, dtype=tf.int64)
    epochs = tf.cast(examples // size, tf.int32)
    seeds = tf.stack(
        [
            tf.fill([count], tf.constant(seed, tf.int32)),
            epochs,
            tf.fill([count], _SHUFFLE_STREAM),
        ],
        axis=1,
    )
    last = tf.fill([count], tf.constant(size - 1, tf.int64))
    return tf.raw_ops.RandomIndexShuffle(
        index=examples % size, seed=seeds, max_index=last, rounds=_SHUFFLE_ROUNDS
    )


def read_images(source: Source, indices: tf.Tensor) -> tf.Tensor:
    """The images at `indices` (int64 [n]): float32 [n, H, W, C] in [0, 1]."""
    images = tf.numpy_function(source.images, [indices], tf.uint8, stateful=False)
    images.set_shape([indices.shape[0], *source.image_shape])
    return tf.cast(images, tf.float32) / 255.0


def make_train_dataset(
    source: Source, config: Config, first_step: int, last_step: int
) -> tf.data.Dataset:
    """The batches of steps `first_step` (included) to `last_step` (excluded).

    Returns:
      A dataset of `(corrupted, clean)`, both float32 [batch_size, H, W, C] in [0, 1].
    """
    corrupt = CORRUPTIONS[config.corruption]

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        first_example = step * config.batch_size
        indices = example_indices(
            first_example, config.batch_size, len(source), config.seed
        )
        clean = read_images(source, indices)
        stream = tf.constant(_TRAIN_NOISE_STREAM + config.seed, tf.int64)
        return corrupt(clean, Key(stream, first_example), config), clean

    steps = tf.data.Dataset.range(first_step, last_step)
    return steps.map(batch, tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def make_eval_dataset(source: Source, config: Config) -> tf.data.Dataset:
    """All images of `source` in order, with noise that is the same in every run.

    The noise depends on the image's position alone, not on `--seed` or `--batch_size`,
    so that two evaluations are comparable.

    Returns:
      A dataset of `(corrupted, clean, weights)`: float32 [batch_size, H, W, C] in
      [0, 1] twice, and float32 [batch_size] of 1, or 0 in the rows that fill up the
      last batch.
    """
    corrupt = CORRUPTIONS[config.corruption]

    def batch(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        first_example = number * config.batch_size
        examples = first_example + tf.range(config.batch_size, dtype=tf.int64)
        clean = read_images(source, tf.minimum(examples, len(source) - 1))
        stream = tf.constant(_EVAL_NOISE_STREAM, tf.int64)
        corrupted = corrupt(clean, Key(stream, first_example), config)
        return corrupted, clean, tf.cast(examples < len(source), tf.float32)

    numbers = tf.data.Dataset.range(-(-len(source) // config.batch_size))
    return numbers.map(batch, tf.data.AUTOTUNE, deterministic=True).prefetch(2)
