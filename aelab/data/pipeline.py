"""Datasets of batches. A batch is a function of the step, and of nothing else.

A run counts examples. The number of an example determines its image, crop, augmentation
and noise, so each replica can make its own rows of the global batch. docs/design.md has
the rest.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from aelab.config import Config
from aelab.data.augment import augment, dither
from aelab.data.corruptions import corrupt
from aelab.data.permutation import example_indices
from aelab.data.pixels import unit_tensor
from aelab.data.randomness import Key, random_bits
from aelab.data.sources import ArraySource, Source
from aelab.errors import ImageError

# Everything is seeded by one integer; these offsets of streams keep its uses apart.
_TRAIN_NOISE, _EVAL_NOISE, _CROP, _DITHER, _AUGMENT = (n << 32 for n in range(1, 6))


class Batch(NamedTuple):
    """The rows of a training batch for one replica.

    `corrupted`, the model's input, and `clean`, the target, are float32 [rows, H, W, C]
    in [0, 1]. `dither` is float32 [rows, dither_size] in (-1/2, 1/2), for a model that
    needs it. A dataset leaves it out otherwise: tf.data has no empty components.
    """

    corrupted: tf.Tensor
    clean: tf.Tensor
    dither: tf.Tensor | None = None


class EvalBatch(NamedTuple):
    """A `Batch` with weights, float32 [n]: 1, or 0 for rows that pad the last batch."""

    corrupted: tf.Tensor
    clean: tf.Tensor
    weights: tf.Tensor


class Share(NamedTuple):
    """The rows of every global batch that a worker makes: those of its replicas."""

    replicas: int = 1  # of all workers; each has an equal part of the rows
    first_replica: int = 0  # number of the worker's first replica
    local_replicas: int = 1  # number of replicas that the worker has


_WHOLE = Share()


def distribute(
    strategy: tf.distribute.Strategy, make: Callable[[Share], tf.data.Dataset]
) -> Any:
    """A dataset over the replicas of `strategy`; `make` builds a worker's share."""

    def from_context(context: tf.distribute.InputContext) -> tf.data.Dataset:
        """The share of one worker."""
        replicas = context.num_replicas_in_sync
        local = replicas // context.num_input_pipelines
        return make(Share(replicas, context.input_pipeline_id * local, local))

    dataset = strategy.distribute_datasets_from_function(from_context)
    # Other strategies send batches ahead to their devices themselves.
    is_single = strategy is tf.distribute.get_strategy()
    if is_single and tf.config.get_visible_devices("GPU"):
        send = tf.data.experimental.prefetch_to_device("GPU:0", buffer_size=2)
        dataset = dataset.apply(send)
    return dataset


def read_images(
    source: Source, indices: tf.Tensor, crop_key: Key | None = None
) -> tf.Tensor:
    """The images at `indices`, int64 [n]: float32 [n, H, W, C] in [0, 1].

    For images in memory no Python code runs. Other sources are called once per batch,
    from several threads. `crop_key` selects the crops of a source that has them.
    Without it each image is requested once: the rows that pad an evaluation's last
    batch are copies.
    """
    if isinstance(source, ArraySource):
        images = tf.gather(source.tensor(), indices)
    elif crop_key is not None and hasattr(source, "crops"):
        rows = tf.shape(indices)[0]
        bits = tf.reshape(random_bits(crop_key, rows, tf.constant(4)), [rows, 2, 2])
        inputs = [indices, tf.bitcast(bits, tf.uint32)]
        images = tf.numpy_function(source.crops, inputs, tf.uint8, stateful=False)
    else:
        different, rows = tf.unique(indices)
        images = tf.numpy_function(source.read, [different], tf.uint8, stateful=False)
        images = tf.gather(images, rows)
    images.set_shape([indices.shape[0], *source.image_shape])
    return unit_tensor(images)


def image_error(error: tf.errors.OpError) -> str:
    """The `ImageError` message within a TensorFlow error; "" if there is none."""
    _, _, rest = str(error.message).partition(f"{ImageError.__name__}: ")
    return rest.partition("\n")[0]


def make_train_dataset(
    source: Source,
    config: Config,
    first_step: int,
    share: Share = _WHOLE,
    dither_size: int = 0,
) -> tf.data.Dataset:
    """The batches from step `first_step` on, without end.

    For every step it has one element for each replica of `share`: a tuple, the parts of
    a `Batch` that are not None, of `batch_size / replicas` rows.
    """
    rows = config.batch_size // share.replicas

    def batch(first_example: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The rows from example `first_example`, an int64 scalar, on."""
        indices = example_indices(
            first_example, rows, len(source), config.seed, config.shuffle_version
        )

        def key(stream: int) -> Key:
            """The key of a use of randomness for these examples."""
            return Key(tf.constant(stream + config.seed, tf.int64), first_example)

        clean = read_images(source, indices, key(_CROP))
        clean = augment(clean, key(_AUGMENT), config)
        noisy = indices if config.fixed_noise else first_example
        corrupted = corrupt_training(clean, noisy, config)
        if not dither_size:
            return corrupted, clean
        return corrupted, clean, dither(key(_DITHER), rows, dither_size)

    elements = tf.data.Dataset.counter(first_step * share.local_replicas)
    return _mapped(elements, batch, config, share)


def corrupt_training(clean: tf.Tensor, example: tf.Tensor, config: Config) -> tf.Tensor:
    """Corrupts training examples; `example` is as in a `Key`."""
    stream = tf.constant(_TRAIN_NOISE + config.seed, tf.int64)
    return corrupt(clean, Key(stream, example), config)


def num_eval_batches(source: Source, config: Config) -> int:
    """Number of global batches that hold all images of `source`."""
    return -(-len(source) // config.batch_size)


def make_eval_dataset(
    source: Source, config: Config, share: Share = _WHOLE
) -> tf.data.Dataset:
    """All images of `source`, in order, with frozen noise.

    The noise depends only on the image's position, not on `--seed` or `--batch_size`,
    so that any two evaluations can be compared. For every global batch it has one
    `EvalBatch` for each replica of `share`, of `batch_size / replicas` rows.
    """
    rows = config.batch_size // share.replicas

    def batch(first_example: tf.Tensor) -> EvalBatch:
        """The rows from image `first_example`, an int64 scalar, on."""
        examples = first_example + tf.range(rows, dtype=tf.int64)
        clean = read_images(source, tf.minimum(examples, len(source) - 1))
        key = Key(tf.constant(_EVAL_NOISE, tf.int64), first_example)
        weights = tf.cast(examples < len(source), tf.float32)
        return EvalBatch(corrupt(clean, key, config), clean, weights)

    number = num_eval_batches(source, config) * share.local_replicas
    return _mapped(tf.data.Dataset.range(number), batch, config, share)


def _mapped(
    elements: tf.data.Dataset,
    batch: Callable[[tf.Tensor], tuple[tf.Tensor, ...]],
    config: Config,
    share: Share,
) -> tf.data.Dataset:
    """Maps each element to its batch, in order, a few steps ahead of the consumer."""

    @tf.autograph.experimental.do_not_convert
    def of_element(element: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The batch of one replica at one step, which `element` counts."""
        step, local = element // share.local_replicas, element % share.local_replicas
        part = (share.first_replica + local) * (config.batch_size // share.replicas)
        return batch(step * config.batch_size + part)

    dataset = elements.map(of_element, tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(2 * share.local_replicas)
