"""The input: a batch is a function of the step, and nothing else.

A run counts examples. Example g is image `permutation(g mod N)` of epoch `g // N`, and
carries the noise of example g; where it is a part of a picture, it is the part of
example g. So every epoch shows each image once, every batch is
full, batches run across the borders of epochs, and to resume at step k is to begin at
example k * batch_size: there is no state to save.

On several replicas each makes its own rows of the global batch. They are the same rows,
bit for bit, whatever the number of replicas and workers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from aelab.config import Config
from aelab.data.corruptions import corrupt
from aelab.data.randomness import LEVELS, Key, random_bits
from aelab.data.sources import ArraySource, Source, SupportsCrops
from aelab.errors import ImageError

# One integer seeds all; these keep what follows from it apart.
_SHUFFLE_STREAM = 1
_TRAIN_NOISE_STREAM = 1 << 32
_EVAL_NOISE_STREAM = 2 << 32
_CROP_STREAM = 3 << 32
_DITHER_STREAM = 4 << 32
_MOVE_STREAM = 5 << 32

_SHUFFLE_ROUNDS = 4


class Share(NamedTuple):
    """Which rows of every global batch a worker makes: those of its replicas.

    Attributes:
      replicas: how many there are; each has an equal part of the rows.
      first_replica: number of the worker's first replica.
      local_replicas: how many the worker has.
    """

    replicas: int = 1
    first_replica: int = 0
    local_replicas: int = 1

    def place(self, element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(batch, replica) that the worker's n-th element is for."""
        batch, local = element // self.local_replicas, element % self.local_replicas
        return batch, self.first_replica + local


_WHOLE = Share()


def distribute(
    strategy: tf.distribute.Strategy, make: Callable[[Share], tf.data.Dataset]
) -> Any:
    """A dataset over the replicas of `strategy`, of which `make` gives a share."""

    def from_context(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync
        local = replicas // context.num_input_pipelines
        return make(Share(replicas, context.input_pipeline_id * local, local))

    dataset = strategy.distribute_datasets_from_function(from_context)
    # The other strategies send batches ahead to their devices by themselves.
    is_single = strategy is tf.distribute.get_strategy()
    if is_single and tf.config.get_visible_devices("GPU"):
        send = tf.data.experimental.prefetch_to_device("GPU:0", buffer_size=2)
        dataset = dataset.apply(send)
    return dataset


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


def read_images(
    source: Source, indices: tf.Tensor, crop_key: Key | None = None
) -> tf.Tensor:
    """Images of a source, those in memory without Python.

    Other sources are called once a batch, by several threads, and asked for each image
    once: the rows that fill up an evaluation's last batch are copies.

    Args:
      source: gives uint8.
      indices: int64 [n], which images.
      crop_key: which parts of them, if the source has larger ones; None for those that
        the source gives unasked.

    Returns:
      float32 [n, H, W, C] in [0, 1].
    """
    if isinstance(source, ArraySource):
        images = tf.gather(source.tensor(), indices)
    else:
        if crop_key is not None and isinstance(source, SupportsCrops):
            inputs = [indices, _places(crop_key, indices)]
            images = tf.numpy_function(source.crops, inputs, tf.uint8, stateful=False)
        else:
            different, rows = tf.unique(indices)
            images = tf.numpy_function(
                source.read, [different], tf.uint8, stateful=False
            )
            images = tf.gather(images, rows)
        images.set_shape([indices.shape[0], *source.image_shape])
    return tf.cast(images, tf.float32) / 255.0


def _places(key: Key, indices: tf.Tensor) -> tf.Tensor:
    """Two random numbers an example: uint32 [n, 2]."""
    rows = tf.shape(indices)[0]
    bits = random_bits(key, rows, tf.constant(4))
    return tf.bitcast(tf.reshape(bits, [rows, 2, 2]), tf.uint32)


def move(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Mirrors and shifts images, as `mirror` and `max_shift` of `config` say.

    Args:
      images: float32 [n, H, W, C].
      key: by which each draws whether it is mirrored, left to right, and how far it is
        shifted down and right: whole pixels in [-max_shift, max_shift].
      config: whether and how far.

    Returns:
      float32 [n, H, W, C]; where nothing comes in, the edge is repeated.
    """
    if config.mirror == "false" and not config.max_shift:
        return images
    rows = tf.shape(images)[0]
    bits = tf.cast(random_bits(key, rows, tf.constant(3)), tf.int32)
    shifts = bits * (2 * config.max_shift + 1) // LEVELS - config.max_shift
    height, width = images.shape[1:3]
    down = tf.clip_by_value(tf.range(height) - shifts[:, :1], 0, height - 1)
    right = tf.clip_by_value(tf.range(width) - shifts[:, 1:2], 0, width - 1)
    if config.mirror == "true":
        right = tf.where(bits[:, 2:] < LEVELS // 2, width - 1 - right, right)
    moved = tf.gather(images, down, axis=1, batch_dims=1)
    return tf.gather(moved, right, axis=2, batch_dims=1)


def dither(key: Key, rows: int, size: int) -> tf.Tensor:
    """Uniform noise in (-1/2, 1/2), one of 65,536 values: float32 [rows, size]."""
    bits = random_bits(key, tf.constant(rows), tf.constant(size))
    return (tf.cast(bits, tf.float32) + 0.5) / LEVELS - 0.5


def image_error(error: tf.errors.OpError) -> str:
    """The message of the `ImageError` by which TensorFlow failed, "" if by another."""
    _, _, rest = str(error.message).partition(f"{ImageError.__name__}: ")
    return rest.partition("\n")[0]


def make_train_dataset(
    source: Source, config: Config, first_step: int, share: Share = _WHOLE
) -> tf.data.Dataset:
    """The batches from step `first_step` on, without end.

    Returns:
      A dataset of `(corrupted, clean)`, both float32 [rows, H, W, C] in [0, 1]: for one
      replica of `share` after the other, with `batch_size / replicas` rows each. For a
      model that sends integers there is a third, what its code is dithered by, float32
      [rows, encoding_dim].
    """
    rows = config.batch_size // share.replicas

    def batch(element: tf.Tensor) -> tuple[tf.Tensor, ...]:
        step, replica = share.place(element)
        first_example = step * config.batch_size + replica * rows
        indices = example_indices(first_example, rows, len(source), config.seed)

        def key(stream: int) -> Key:
            return Key(tf.constant(stream + config.seed, tf.int64), first_example)

        clean = read_images(source, indices, key(_CROP_STREAM))
        clean = move(clean, key(_MOVE_STREAM), config)
        corrupted = corrupt_training(clean, first_example, config)
        if not config.sends_integers():
            return corrupted, clean
        return corrupted, clean, dither(key(_DITHER_STREAM), rows, config.encoding_dim)

    elements = tf.data.Dataset.counter(first_step * share.local_replicas)
    return _mapped(elements, batch, share)


def corrupt_training(
    clean: tf.Tensor, first_example: tf.Tensor, config: Config
) -> tf.Tensor:
    """The training examples from `first_example` (int64 scalar) on, corrupted.

    Args:
      clean: float32 [n, H, W, C] in [0, 1], what the examples show.
      first_example: the number of the first one.
      config: the corruption, and the seed.

    Returns:
      float32 [n, H, W, C] in [0, 1].
    """
    stream = tf.constant(_TRAIN_NOISE_STREAM + config.seed, tf.int64)
    return corrupt(clean, Key(stream, first_example), config)


def num_eval_batches(source: Source, config: Config) -> int:
    """How many global batches hold all images of `source`."""
    return -(-len(source) // config.batch_size)


def make_eval_dataset(
    source: Source, config: Config, share: Share = _WHOLE
) -> tf.data.Dataset:
    """All images of `source` in order, with noise that is the same in every run.

    The noise depends on the image's position alone, not on `--seed` or `--batch_size`,
    so that two evaluations are comparable.

    Returns:
      A dataset of `(corrupted, clean, weights)`: float32 [rows, H, W, C] in [0, 1]
      twice, and float32 [rows] of 1, or 0 in the rows that fill up the last batch; for
      one replica of `share` after the other, with `batch_size / replicas` rows each.
    """
    rows = config.batch_size // share.replicas

    def batch(element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        number, replica = share.place(element)
        first_example = number * config.batch_size + replica * rows
        examples = first_example + tf.range(rows, dtype=tf.int64)
        clean = read_images(source, tf.minimum(examples, len(source) - 1))
        stream = tf.constant(_EVAL_NOISE_STREAM, tf.int64)
        corrupted = corrupt(clean, Key(stream, first_example), config)
        return corrupted, clean, tf.cast(examples < len(source), tf.float32)

    number = num_eval_batches(source, config) * share.local_replicas
    return _mapped(tf.data.Dataset.range(number), batch, share)


def _mapped(
    elements: tf.data.Dataset, batch: Callable[[tf.Tensor], Any], share: Share
) -> tf.data.Dataset:
    """`batch` of each element, in order, a few steps ahead of who takes them."""
    dataset = elements.map(batch, tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(2 * share.local_replicas)
