"""Datasets of batches. A batch is a function of the step, and of nothing else.

A run counts examples. The number of an example determines its image, crop, augmentation
and noise, so each replica can make its own rows of the global batch. docs/design.md has
the rest.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.data.augment import augment, dither
from aelab.data.blind_spots import CELL, blind_spots
from aelab.data.corruptions import corrupt
from aelab.data.noisy_pictures import NoisyPictures
from aelab.data.permutation import example_indices
from aelab.data.randomness import Key
from aelab.data.reading import crop_places, read_images, read_picture
from aelab.data.sources import PictureSource, Source
from aelab.errors import UsageError

# Everything is seeded by one integer; these offsets of streams keep its uses apart.
_TRAIN_NOISE, _EVAL_NOISE, _CROP, _DITHER, _AUGMENT, _PICTURE_NOISE = (
    n << 32 for n in range(1, 7)
)
_SECOND_NOISE, _MASK = (n << 32 for n in range(7, 9))
_SECOND = 1 << 61  # offset of the second noise, or of the mask, in evaluations
_OWN_NOISE = 1 << 60  # of up to 2^28 pictures, by seed and number

_MAX_PARALLEL_CALLS = 16  # batches made at a time; each needs memory


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
        """The dataset of a worker."""
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


def check_images(config: Config, image_shape: tuple[int, int, int]) -> None:
    """Raises UsageError if training images of this (H, W, C) do not fit `config`."""
    height, width, _ = image_shape
    if config.turn and height != width:
        raise UsageError(f"--turn=true needs square images, not {width} x {height}")
    if config.supervision == "noise2void" and min(height, width) < CELL:
        raise UsageError(
            f"--supervision=noise2void needs images of at least {CELL} x {CELL} "
            f"pixels, not {width} x {height}"
        )


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
    noisy_source = _with_fixed_noise(source, config)

    def batch(first_example: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The rows from an example on."""
        indices = example_indices(
            first_example, rows, len(source), config.seed, config.shuffle_version
        )

        def key(stream: int) -> Key:
            """The key of these examples for one use."""
            return Key(tf.constant(stream + config.seed, tf.int64), first_example)

        if config.supervision == "noise2void":
            noisy = noisy_source(indices, key(_CROP))
            noisy = augment(noisy, key(_AUGMENT), config)
            spots = blind_spots(noisy, key(_MASK))
            return spots.masked, noisy, tf.zeros([rows, 0]), spots.mask
        clean = read_images(source, indices, key(_CROP))
        clean = augment(clean, key(_AUGMENT), config)
        example = indices if config.fixed_noise else first_example
        target, corrupted = clean, corrupt_training(clean, example, config)
        if config.supervision == "noise2noise":
            target = corrupt_training(clean, example, config, _SECOND_NOISE)
        if not dither_size:
            return corrupted, target
        return corrupted, target, dither(key(_DITHER), rows, dither_size)

    elements = tf.data.Dataset.counter(first_step * share.local_replicas)
    return _mapped(elements, batch, config.batch_size, share)


def corrupt_training(
    clean: tf.Tensor, example: tf.Tensor, config: Config, stream: int = _TRAIN_NOISE
) -> tf.Tensor:
    """Corrupts training examples; `example` is as in a `Key`."""
    key = Key(tf.constant(stream + config.seed, tf.int64), example)
    return corrupt(clean, key, config)


def _with_fixed_noise(
    source: Source, config: Config
) -> Callable[[tf.Tensor, Key], tf.Tensor]:
    """Reads images whose noise belongs to their pixels, for all epochs and crops.

    Returns `(indices, crop_key) -> float32 [n, H, W, C]`.
    """
    if config.corruption == "none" or not isinstance(source, PictureSource):

        def images(indices: tf.Tensor, crop_key: Key) -> tf.Tensor:
            """Noisy images."""
            clean = read_images(source, indices, crop_key)
            return corrupt_training(clean, indices, config)

        return images

    def corrupt_picture(clean: np.ndarray, index: int) -> np.ndarray:
        """A whole picture with its own noise."""
        stream = tf.constant(_OWN_NOISE + (config.seed << 28) + index, tf.int64)
        with tf.device("CPU:0"):
            key = Key(stream, tf.constant(0, tf.int64))
            noisy = corrupt(tf.constant(clean[np.newaxis]), key, config)
        pixels: np.ndarray = noisy.numpy()[0]
        return pixels

    noisy = NoisyPictures(source, corrupt_picture, config.cache_mb)

    def squares(indices: tf.Tensor, crop_key: Key) -> tf.Tensor:
        """Crops of noisy pictures."""
        inputs = [indices, crop_places(crop_key, indices)]
        found = tf.numpy_function(noisy.crops, inputs, tf.float32, stateful=False)
        found.set_shape([indices.shape[0], *source.image_shape])
        return found

    return squares


def eval_batch_size(config: Config, replicas: int = 1) -> int:
    """Images of a global batch in an evaluation: whole pictures are one per replica."""
    return replicas if config.whole_pictures else config.batch_size


def num_eval_batches(source: Source, config: Config, replicas: int = 1) -> int:
    """Number of global batches that hold all images of `source`."""
    return -(-len(source) // eval_batch_size(config, replicas))


def make_eval_dataset(
    source: Source, config: Config, share: Share = _WHOLE
) -> tf.data.Dataset:
    """All images of `source`, in order, with frozen noise.

    The noise depends only on the image's position, not on `--seed` or `--batch_size`,
    so that any two evaluations can be compared. For every global batch it has one
    element for each replica of `share`: a tuple, the parts of an `EvalBatch` that are
    not None, of `eval_batch_size / replicas` rows.
    """
    size = eval_batch_size(config, share.replicas)
    rows = size // share.replicas

    def batch(first_example: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The rows from an example on."""
        examples = first_example + tf.range(rows, dtype=tf.int64)
        indices = tf.minimum(examples, len(source) - 1)
        weights = tf.cast(examples < len(source), tf.float32)
        if config.whole_pictures and isinstance(source, PictureSource):
            clean, key = read_picture(source, indices[0]), picture_key(indices[0])
        else:
            clean = read_images(source, indices)
            key = Key(tf.constant(_EVAL_NOISE, tf.int64), first_example)
        corrupted = corrupt(clean, key, config)
        if config.supervision == "noise2noise":
            second = corrupt(clean, key.offset_by(_SECOND), config)
            return corrupted, clean, weights, second
        if config.supervision == "noise2void":
            spots = blind_spots(corrupted, key.offset_by(_SECOND))
            return corrupted, clean, weights, corrupted, *spots
        return corrupted, clean, weights

    number = num_eval_batches(source, config, share.replicas) * share.local_replicas
    return _mapped(tf.data.Dataset.range(number), batch, size, share)


def picture_key(index: tf.Tensor) -> Key:
    """The frozen noise of a whole picture, a stream of its own: sizes differ."""
    return Key(_PICTURE_NOISE + index, tf.constant(0, tf.int64))


def _mapped(
    elements: tf.data.Dataset,
    batch: Callable[[tf.Tensor], tuple[tf.Tensor, ...]],
    batch_size: int,
    share: Share,
) -> tf.data.Dataset:
    """Maps each element to its batch, in order, a few steps ahead of the consumer."""

    @tf.autograph.experimental.do_not_convert
    def of_element(element: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The rows of one replica in one step."""
        step, local = element // share.local_replicas, element % share.local_replicas
        part = (share.first_replica + local) * (batch_size // share.replicas)
        return batch(step * batch_size + part)

    calls = min(len(os.sched_getaffinity(0)), _MAX_PARALLEL_CALLS)
    dataset = elements.map(of_element, calls, deterministic=True)
    dataset = dataset.prefetch(2 * share.local_replicas)
    return dataset.with_options(_without_autotune())


def _without_autotune() -> tf.data.Options:
    """For datasets whose iterators end at once.

    With autotune, a thread of tf.data 2.21 sleeps for up to a minute, and one iterator
    in four waits at its end until this thread wakes up.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options
