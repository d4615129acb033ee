import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.data.permutation import example_indices
from aelab.data.pipeline import make_eval_dataset, make_train_dataset
from aelab.data.sources import ArraySource

CONFIG = Config(batch_size=16, noise_stddev=0.5, seed=5)
SEVERAL = dataclasses.replace(
    CONFIG,
    corruption="salt_and_pepper,masking,poisson,jpeg,gaussian",
    noise_stddev_max=0.8,
)
MOVED = dataclasses.replace(CONFIG, mirror=True, max_shift=1)
SECOND, BLIND = (
    dataclasses.replace(CONFIG, loss="mse", supervision=supervision)
    for supervision in ("noise2noise", "noise2void")
)
# Number of values per example.
DITHER = {CONFIG: 0, SEVERAL: 0, MOVED: 6, SECOND: 0, BLIND: 0}
each = pytest.mark.parametrize(
    "config", DITHER, ids=["1", "5", "moved", "second", "blind"]
)


def numbered_source(count, shape=(4, 4, 1)):
    """Image i is filled with i, so that a batch shows which images it holds."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, *shape)
    )
    return ArraySource(np.ascontiguousarray(images))


def batches(source, config, first, last, dither_size=0):
    dataset = make_train_dataset(source, config, first, dither_size=dither_size)
    taken = dataset.take(last - first)
    return [tuple(part.numpy() for part in batch) for batch in taken]


@functools.cache
def numbered_batches(config):
    """The batches of steps 0 to 19 of 50 numbered images."""
    return batches(numbered_source(50), config, 0, 20, DITHER[config])


def joined(parts):
    """The batches as one: each part of all of them, concatenated."""
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def numbers(clean):
    return np.round(clean[:, 0, 0, 0] * 255).astype(int)


def test_batches_run_across_epochs_and_are_always_full():
    seen = [numbers(clean) for _, clean in numbered_batches(CONFIG)]
    assert {len(batch) for batch in seen} == {16}
    expected = example_indices(0, 320, 50, seed=5)
    np.testing.assert_array_equal(np.concatenate(seen), expected)


def test_nothing_delays_the_end_of_an_iterator():
    """With autotune, it may wait for a minute for each device."""
    source = numbered_source(50)
    train, evaluate = (
        make_train_dataset(source, CONFIG, 0),
        make_eval_dataset(source, CONFIG),
    )
    assert train.options().autotune.enabled is False
    assert evaluate.options().autotune.enabled is False


@pytest.mark.parametrize("first", [3, 4, 11])  # an epoch has 3 1/8 batches
@each
def test_batches_are_the_same_from_any_first_step(config, first):
    found = batches(numbered_source(50), config, first, 12, DITHER[config])
    assert len(found) == 12 - first
    for batch, expected in zip(found, numbered_batches(config)[first:12], strict=True):
        for part, right in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(part, right)


@pytest.mark.parametrize("batch_size", [1, 5, 40, 80])
@each
def test_an_example_does_not_depend_on_the_batch_size(config, batch_size):
    other = dataclasses.replace(config, batch_size=batch_size)
    found = batches(numbered_source(50), other, 0, 80 // batch_size, DITHER[config])
    expected = numbered_batches(config)[:5]
    for part, right in zip(joined(found), joined(expected), strict=True):
        np.testing.assert_array_equal(part, right)


@each
def test_batches_do_not_depend_on_threads(config):
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.deterministic = True
    dataset = make_train_dataset(
        numbered_source(50), config, 0, dither_size=DITHER[config]
    )
    found = dataset.take(20).with_options(options)
    for batch, expected in zip(found, numbered_batches(config), strict=True):
        for part, right in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(part, right)


def test_noise_differs_between_epochs_and_between_seeds():
    source = numbered_source(16)
    other_seed = dataclasses.replace(CONFIG, seed=6)
    first, second = batches(source, CONFIG, 0, 2)
    third = batches(source, other_seed, 0, 1)[0]
    noises = []
    for corrupted, clean in (first, second, third):
        order = np.argsort(numbers(clean))
        noises.append((corrupted - clean)[order])
    assert np.abs(noises[0] - noises[1]).mean() > 0.1
    assert np.abs(noises[0] - noises[2]).mean() > 0.1


@pytest.mark.parametrize("batch_size", [16, 5])
def test_fixed_noise_belongs_to_the_image(batch_size):
    """As in a noisy copy of the set, the same at any batch size; a seed changes it."""
    config = dataclasses.replace(CONFIG, fixed_noise=True)
    other = dataclasses.replace(config, batch_size=batch_size)
    copy = noisy_images(config, 0, 10)
    assert len(copy) == 50 and len({image for (image,) in copy.values()}) == 50
    assert noisy_images(other, 30, 70) == copy
    assert noisy_images(dataclasses.replace(config, seed=6), 0, 10) != copy


def noisy_images(config, first, last):
    """By number, the bytes of all different inputs that an image of 50 has had."""
    corrupted, clean = joined(batches(numbered_source(50), config, first, last))
    found = {number: set() for number in numbers(clean).tolist()}
    for number, image in zip(numbers(clean).tolist(), corrupted, strict=True):
        found[number].add(image.tobytes())
    return dict(sorted(found.items()))


def test_every_example_has_its_own_noise():
    source = ArraySource(np.full((50, 4, 4, 1), 128, np.uint8))
    config = dataclasses.replace(CONFIG, noise_stddev=0.05)
    corrupted = np.concatenate([b[0] for b in batches(source, config, 0, 100)])
    assert len({image.tobytes() for image in corrupted}) == 1600


def test_without_noise_the_input_is_the_clean_image():
    config = dataclasses.replace(CONFIG, noise_stddev=0.0)
    for corrupted, clean in batches(numbered_source(50), config, 0, 3):
        np.testing.assert_array_equal(corrupted, clean)


def test_images_are_scaled_to_the_unit_interval():
    values = np.array([0, 51, 255], np.uint8).reshape(3, 1, 1, 1)
    source = ArraySource(np.tile(values, (1, 4, 4, 1)))
    config = dataclasses.replace(CONFIG, batch_size=3)
    dataset = make_eval_dataset(source, config)
    _, clean, _ = next(iter(dataset))
    assert clean.dtype == tf.float32
    np.testing.assert_array_equal(
        clean[:, 0, 0, 0], np.array([0, 51 / 255, 1], np.float32)
    )


@pytest.mark.parametrize("batch_size", [1, 7, 16, 50, 64])
def test_evaluation_holds_each_image_once_with_frozen_noise(batch_size):
    source = numbered_source(50)
    config = dataclasses.replace(CONFIG, batch_size=batch_size, seed=batch_size)
    parts = [tuple(map(np.array, b)) for b in make_eval_dataset(source, config)]
    assert len(parts) == -(-50 // batch_size)
    corrupted, clean, weights = joined(parts)
    assert weights.sum() == 50
    real = weights == 1
    np.testing.assert_array_equal(numbers(clean[real]), np.arange(50))
    frozen = dataclasses.replace(CONFIG, batch_size=50)
    expected, _, _ = next(iter(make_eval_dataset(source, frozen)))
    np.testing.assert_array_equal(corrupted[real], expected)


def test_evaluation_and_training_noise_differ():
    source = numbered_source(16)
    config = dataclasses.replace(CONFIG, seed=0)
    (corrupted, clean), *_ = batches(source, config, 0, 1)
    eval_corrupted, eval_clean, _ = next(iter(make_eval_dataset(source, config)))
    train_noise = corrupted - clean
    eval_noise = (eval_corrupted - eval_clean).numpy()
    assert np.abs(train_noise - eval_noise).mean() > 0.1


def test_a_source_that_is_not_in_memory_gives_the_same_batches():
    """It is read through Python, and a source in memory by TensorFlow."""

    class Elsewhere:
        def __init__(self, source):
            self.image_shape, self.read = source.image_shape, source.read
            self.dtype = source.dtype
            self.count = len(source)

        def __len__(self):
            return self.count

    found = batches(Elsewhere(numbered_source(50)), CONFIG, 0, 5)
    for batch, expected in zip(found, numbered_batches(CONFIG)[:5], strict=True):
        np.testing.assert_array_equal(batch[0], expected[0])
        np.testing.assert_array_equal(batch[1], expected[1])


def test_evaluation_reads_each_image_once():
    """The rows that pad its last batch are copies."""

    class Recording:
        image_shape, dtype, requested = (4, 4, 1), np.dtype(np.uint8), []

        def __len__(self):
            return 5

        def read(self, indices):
            self.requested += indices.tolist()
            return images[indices]

    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    source, config = Recording(), Config(batch_size=4, noise_stddev=0.3)
    expected = list(make_eval_dataset(ArraySource(images), config))
    for batch, right in zip(make_eval_dataset(source, config), expected, strict=True):
        for part, right_part in zip(batch, right, strict=True):
            np.testing.assert_array_equal(part, right_part)
    assert sorted(source.requested) == [0, 1, 2, 3, 4]
