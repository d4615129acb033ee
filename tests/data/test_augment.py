import itertools

import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.data import augment as augment_module
from aelab.data.augment import augment, dither, move, turn
from aelab.data.randomness import Key

KEY = Key(tf.constant(7, tf.int64), tf.constant(0, tf.int64))


def moved(images, config):
    return move(tf.constant(images), KEY, config).numpy()


def is_move(images, others, mirrored, down, right):
    """Whether this move turns each image into the other one: bool [n]."""
    images = images[:, :, ::-1] if mirrored else images
    height, width = images.shape[1:3]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return (images[:, rows][:, :, columns] == others).all(axis=(1, 2, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_mirroring_and_shifts_are_uniform(channels):
    images = np.random.default_rng(0).random((4000, 5, 7, channels), np.float32)
    others = moved(images, Config(mirror=True, max_shift=2))
    moves = list(itertools.product((False, True), range(-2, 3), range(-2, 3)))
    matches = np.array([is_move(images, others, *move) for move in moves])
    assert (matches.sum(axis=0) == 1).all()
    mirrored, down, right = np.array(moves)[matches.argmax(axis=0)].T
    assert abs(np.mean(mirrored) - 0.5) < 0.04
    for shift in (down, right):
        shares = np.bincount(shift + 2, minlength=5) / len(images)
        np.testing.assert_allclose(shares, 0.2, atol=0.03)


def test_nothing_but_the_position_changes():
    images = np.random.default_rng(0).random((50, 6, 6, 1), np.float32)
    still = moved(images, Config(mirror=True))
    for image, other in zip(images, still, strict=True):
        assert np.array_equal(image, other) or np.array_equal(image[:, ::-1], other)
    np.testing.assert_array_equal(moved(images, Config()), images)
    far = moved(images, Config(max_shift=4096))
    assert far.shape == images.shape and set(far.ravel()) <= set(images.ravel())


@pytest.mark.parametrize("channels", [1, 3])
def test_quarter_turns_are_uniform(channels):
    images = np.random.default_rng(0).random((4000, 6, 6, channels), np.float32)
    others = turn(tf.constant(images), KEY, Config(turn=True)).numpy()
    turns = [np.rot90(images, -quarters, (1, 2)) for quarters in range(4)]
    matches = np.array([(others == t).all((1, 2, 3)) for t in turns])
    assert (matches.sum(axis=0) == 1).all()
    np.testing.assert_allclose(matches.mean(axis=1), 0.25, atol=0.03)


def test_mirrors_and_turns_give_all_symmetries_of_the_square():
    images = np.repeat(
        np.random.default_rng(0).random((1, 4, 4, 1), np.float32), 400, 0
    )
    found = augment(tf.constant(images), KEY, Config(mirror=True, turn=True)).numpy()
    assert len({image.tobytes() for image in found}) == 8


def test_turns_belong_to_the_example():
    images = tf.constant(np.random.default_rng(0).random((9, 4, 4, 1), np.float32))
    config = Config(turn=True)
    later = Key(KEY.stream, tf.constant(5, tf.int64))
    whole, part = turn(images, KEY, config), turn(images[5:], later, config)
    np.testing.assert_array_equal(whole[5:], part)
    np.testing.assert_array_equal(turn(images, KEY, Config()), images)


def test_every_augmentation_has_its_own_stream(monkeypatch):
    """The first one has the stream of the key."""
    table = dict.fromkeys(("first", "second"), "aelab.data.augment:move")
    monkeypatch.setattr(augment_module, "AUGMENTATIONS", table)
    images = np.random.default_rng(0).random((20, 6, 6, 1), np.float32)
    config = Config(max_shift=2)
    second = Key(KEY.stream + (1 << 40), KEY.example)
    expected = move(move(tf.constant(images), KEY, config), second, config)
    found = augment(tf.constant(images), KEY, config)
    np.testing.assert_array_equal(found, expected)


def test_registered_augmentations_leave_images_alone_by_default():
    images = tf.random.stateless_uniform([5, 6, 6, 3], [1, 2])
    np.testing.assert_array_equal(augment(images, KEY, Config()), images)


def test_dither_is_uniform_and_differs_between_examples():
    second = Key(KEY.stream, KEY.example + 500)
    parts = [dither(key, 500, 6).numpy() for key in (KEY, second)]
    assert parts[0].shape == (500, 6) and parts[0].dtype == np.float32
    both = np.concatenate(parts)
    assert np.abs(both).max() < 0.5
    assert abs(both.mean()) < 0.01 and abs(both.var() - 1 / 12) < 0.002
    assert np.unique(both).size > 0.9 * both.size
