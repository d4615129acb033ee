import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.data import augment as augment_module
from aelab.data.augment import augment, dither, move
from aelab.data.randomness import Key

KEY = Key(tf.constant(7, tf.int64), tf.constant(0, tf.int64))


def moved(images, config):
    return move(tf.constant(images), KEY, config).numpy()


def places_of(image, moved_image, reach):
    """All (mirrored, down, right) that turn `image` into `moved_image`."""
    found = []
    for mirrored in (False, True):
        # Mirroring and repeating the edges commute.
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
def test_mirroring_and_shifts_are_uniform(channels):
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


def test_nothing_but_the_position_changes():
    images = np.random.default_rng(0).random((50, 6, 6, 1), np.float32)
    still = moved(images, Config(mirror="true"))
    for image, other in zip(images, still, strict=True):
        assert np.array_equal(image, other) or np.array_equal(image[:, ::-1], other)
    np.testing.assert_array_equal(moved(images, Config()), images)
    far = moved(images, Config(max_shift=4096))
    assert far.shape == images.shape and set(far.ravel()) <= set(images.ravel())


def test_every_augmentation_has_its_own_stream(monkeypatch):
    """The first one has the stream of the key."""
    table = dict.fromkeys(("first", "second"), "aelab.data.augment:move")
    monkeypatch.setattr(augment_module, "AUGMENTATIONS", table)
    images = np.random.default_rng(0).random((20, 6, 6, 1), np.float32)
    config = Config(max_shift=2)
    second = Key(KEY.stream + (1 << 40), KEY.first_example)
    expected = move(move(tf.constant(images), KEY, config), second, config)
    found = augment(tf.constant(images), KEY, config)
    np.testing.assert_array_equal(found, expected)


def test_registered_augmentations_leave_images_alone_by_default():
    images = tf.random.stateless_uniform([5, 6, 6, 3], [1, 2])
    np.testing.assert_array_equal(augment(images, KEY, Config()), images)


def test_dither_is_uniform_and_differs_between_examples():
    second = Key(KEY.stream, KEY.first_example + 500)
    parts = [dither(key, 500, 6).numpy() for key in (KEY, second)]
    assert parts[0].shape == (500, 6) and parts[0].dtype == np.float32
    both = np.concatenate(parts)
    assert np.abs(both).max() < 0.5
    assert abs(both.mean()) < 0.01 and abs(both.var() - 1 / 12) < 0.002
    assert np.unique(both).size > 0.9 * both.size
