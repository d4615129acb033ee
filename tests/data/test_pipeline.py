import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.data.pipeline import (
    example_indices,
    image_error,
    make_eval_dataset,
    make_train_dataset,
    move,
)
from aelab.data.randomness import Key
from aelab.data.sources import ArraySource
from aelab.errors import ImageError

CONFIG = Config(batch_size=16, noise_stddev=0.5, seed=5)
SEVERAL = dataclasses.replace(
    CONFIG,
    corruption="salt_and_pepper,masking,poisson,jpeg,gaussian",
    noise_stddev_max=0.8,
)
CODEC = dataclasses.replace(
    CONFIG, model="codec", encoding_dim=6, mirror="true", max_shift=1
)
one_or_several = pytest.mark.parametrize(
    "config", [CONFIG, SEVERAL, CODEC], ids=["1", "5", "codec"]
)


def numbered_source(count, shape=(4, 4, 1)):
    """Image i is filled with i, so that a batch tells which images it holds."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, *shape)
    )
    return ArraySource(np.ascontiguousarray(images))


def indices(first, count, size, seed=5):
    return example_indices(tf.constant(first, tf.int64), count, size, seed).numpy()


def batches(source, config, first, last):
    dataset = make_train_dataset(source, config, first).take(last - first)
    return [tuple(part.numpy() for part in batch) for batch in dataset]


def numbers(clean):
    return np.round(clean[:, 0, 0, 0] * 255).astype(int)


@pytest.mark.parametrize("size", [1, 2, 3, 100, 4443])
def test_every_epoch_shows_each_image_once(size):
    seen = indices(0, 3 * size, size).reshape(3, size)
    for epoch in seen:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [indices(0, 1000, 1000), indices(1000, 1000, 1000)]
    orders += [indices(0, 1000, 1000, seed=6)]
    for one in range(3):
        for two in range(one):
            assert (orders[one] == orders[two]).mean() < 0.02
            assert abs(np.corrcoef(orders[one], orders[two])[0, 1]) < 0.15


def test_an_order_is_no_rotation_or_other_simple_pattern():
    order = indices(0, 1000, 1000)
    steps = np.diff(order)
    assert len(np.unique(steps)) > 500
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.15


def test_far_examples_cost_no_more_than_near_ones():
    far = 10**9 * 1000
    np.testing.assert_array_equal(np.sort(indices(far, 1000, 1000)), np.arange(1000))


def test_batches_run_across_epochs_and_are_always_full():
    source = numbered_source(50)
    seen = [numbers(clean) for _, clean in batches(source, CONFIG, 0, 25)]
    assert {len(batch) for batch in seen} == {16}
    np.testing.assert_array_equal(np.concatenate(seen), indices(0, 400, 50))


@pytest.mark.parametrize("first", [1, 3, 4, 11])
@one_or_several
def test_a_pipeline_begun_at_any_step_gives_the_same_batches(config, first):
    source = numbered_source(50)
    whole = batches(source, config, 0, 12)
    part = batches(source, config, first, 12)
    assert len(part) == 12 - first
    for expected, got in zip(whole[first:], part, strict=True):
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("batch_size", [1, 5, 40, 80])
@one_or_several
def test_an_example_does_not_depend_on_the_batch_size(config, batch_size):
    source = numbered_source(50)
    other = dataclasses.replace(config, batch_size=batch_size)
    expected = np.concatenate([b[0] for b in batches(source, config, 0, 5)])
    got = np.concatenate([b[0] for b in batches(source, other, 0, 80 // batch_size)])
    np.testing.assert_array_equal(got, expected)


@one_or_several
def test_batches_do_not_depend_on_threads(config):
    source = numbered_source(50)
    expected = batches(source, config, 0, 20)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.deterministic = True
    dataset = make_train_dataset(source, config, 0).take(20).with_options(options)
    for batch, one in zip(dataset, expected, strict=True):
        for part, right in zip(batch, one, strict=True):
            np.testing.assert_array_equal(part, right)


def test_noise_is_fresh_in_every_epoch_and_follows_from_the_seed():
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


def test_no_two_examples_share_their_noise():
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
    corrupted, clean, weights = (np.concatenate(p) for p in zip(*parts, strict=True))
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
    """Such a source is asked for arrays, where one in memory is read by TensorFlow."""

    class Elsewhere:
        def __init__(self, source):
            self.image_shape, self.read = source.image_shape, source.read
            self.count = len(source)

        def __len__(self):
            return self.count

    expected = batches(numbered_source(50), CONFIG, 0, 5)
    found = batches(Elsewhere(numbered_source(50)), CONFIG, 0, 5)
    for mine, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine[0], right[0])
        np.testing.assert_array_equal(mine[1], right[1])


def test_evaluation_asks_for_each_image_once():
    """The rows that fill up its last batch are copies."""

    class Noting:
        image_shape, asked = (4, 4, 1), []

        def __len__(self):
            return 5

        def read(self, indices):
            self.asked += indices.tolist()
            return images[indices]

    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    source, config = Noting(), Config(batch_size=4, noise_stddev=0.3)
    expected = list(make_eval_dataset(ArraySource(images), config))
    for found, right in zip(make_eval_dataset(source, config), expected, strict=True):
        for mine, theirs in zip(found, right, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert sorted(source.asked) == [0, 1, 2, 3, 4]


def test_what_a_source_says_is_found_again_in_tensorflows_error():
    class Failing:
        image_shape = (4, 4, 1)

        def __len__(self):
            return 50

        def read(self, indices):
            raise self.error

    source, found = Failing(), []
    for source.error in (ImageError("/a b/ä.png: it is gone"), OSError("gone")):
        with pytest.raises(tf.errors.OpError) as caught:
            batches(source, CONFIG, 0, 1)
        found.append(image_error(caught.value))
    assert found == ["/a b/ä.png: it is gone", ""]


def moved(images, config, first=0):
    key = Key(tf.constant(7, tf.int64), tf.constant(first, tf.int64))
    return move(tf.constant(images), key, config).numpy()


def places_of(image, moved_image, reach):
    """All (mirrored, down, right) by which `image` becomes `moved_image`."""
    found = []
    for mirrored in (False, True):
        # Edges repeated before mirroring are the edges repeated after it.
        start = image[:, ::-1] if mirrored else image
        padded = np.pad(start, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        height, width, _ = image.shape
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                top, left = reach - down, reach - right
                part = padded[top : top + height, left : left + width]
                if np.array_equal(part, moved_image):
                    found.append((mirrored, down, right))
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_mirrored_and_shifted_as_often_as_they_should(channels):
    images = np.random.default_rng(0).random((4000, 5, 7, channels), np.float32)
    config = Config(mirror="true", max_shift=2)
    pairs = zip(images, moved(images, config), strict=True)
    places = [places_of(image, other, 2) for image, other in pairs]
    assert all(len(found) == 1 for found in places)
    mirrored, down, right = np.array([found[0] for found in places]).T
    assert abs(np.mean(mirrored) - 0.5) < 0.04
    for shift in (down, right):
        shares = np.bincount(shift + 2, minlength=5) / len(images)
        np.testing.assert_allclose(shares, 0.2, atol=0.03)


def test_what_moves_is_moved_whole_and_nothing_else_changes():
    images = np.random.default_rng(0).random((50, 6, 6, 1), np.float32)
    still = moved(images, Config(mirror="true"))
    for image, other in zip(images, still, strict=True):
        assert np.array_equal(image, other) or np.array_equal(image[:, ::-1], other)
    np.testing.assert_array_equal(moved(images, Config()), images)
    far = moved(images, Config(max_shift=4096))
    assert far.shape == images.shape and set(far.ravel()) <= set(images.ravel())


def test_dither_is_uniform_and_another_for_every_number():
    config = dataclasses.replace(CODEC, batch_size=500)
    ((_, _, first), (_, _, second)) = batches(numbered_source(20), config, 0, 2)
    assert first.shape == (500, 6) and first.dtype == np.float32
    both = np.concatenate([first, second])
    assert np.abs(both).max() < 0.5
    assert abs(both.mean()) < 0.01 and abs(both.var() - 1 / 12) < 0.002
    assert np.unique(both).size > 0.9 * both.size
