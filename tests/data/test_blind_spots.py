"""Masked pixels: one in each cell, replaced by something that they do not determine."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.data.blind_spots import blind_spots
from aelab.data.randomness import Key
from aelab.models import build_model

RANDOM = np.random.default_rng(0)


def key(example=0):
    return Key(tf.constant(7, tf.int64), tf.constant(example, tf.int64))


def noisy(count=3, height=20, width=24, channels=1):
    return RANDOM.normal(0.5, 1, (count, height, width, channels)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_one_pixel_in_each_cell_is_masked(channels):
    images = noisy(50, 20, 24, channels)
    masked, mask = (part.numpy() for part in blind_spots(tf.constant(images), key()))
    assert mask.shape == (50, 20, 24, 1) and set(np.unique(mask)) == {0, 1}
    cells = mask.reshape(50, 5, 4, 6, 4).sum(axis=(2, 4))
    assert (cells == 1).all()
    shares = mask.reshape(50, 5, 4, 6, 4).mean(axis=(0, 1, 3))
    np.testing.assert_allclose(shares, 1 / 16, atol=0.03)
    is_masked = mask[..., 0] == 1
    np.testing.assert_array_equal(masked[~is_masked], images[~is_masked])
    assert (masked[is_masked] != images[is_masked]).all()


def mean_by_numpy(image, mask, y, x):
    """Of up to eight neighbors; those that share an edge count twice."""
    weights, values = [], []
    for i, j in itertools.product((y - 1, y, y + 1), (x - 1, x, x + 1)):
        is_inside = 0 <= i < mask.shape[0] and 0 <= j < mask.shape[1]
        if is_inside and (i, j) != (y, x) and not mask[i, j]:
            weights.append(2 if y == i or x == j else 1)
            values.append(np.float64(image[i, j]))
    assert len(weights) >= 3
    return np.average(values, axis=0, weights=weights)


@pytest.mark.parametrize("shape", [(2, 12, 12, 1), (1, 9, 14, 3)])
def test_a_masked_pixel_is_a_mean_of_neighbors_that_are_not(shape):
    """Of those within the image; a cell that the border cuts has no spot."""
    images = noisy(*shape)
    masked, mask = (part.numpy() for part in blind_spots(tf.constant(images), key()))
    spots = np.argwhere(mask[..., 0] == 1)
    assert len(spots) == shape[0] * (shape[1] // 4) * (shape[2] // 4)
    for n, y, x in spots:
        expected = mean_by_numpy(images[n], mask[n, ..., 0], y, x)
        assert masked[n, y, x] == pytest.approx(expected, abs=1e-6)


def test_the_mask_belongs_to_the_example():
    images = noisy(9)
    whole = blind_spots(tf.constant(images), key())
    part = blind_spots(tf.constant(images[5:]), key(5))
    np.testing.assert_array_equal(whole.mask[5:], part.mask)
    np.testing.assert_array_equal(whole.masked[5:], part.masked)


def test_a_picture_of_unknown_size_has_the_same_spots():
    images = noisy(3, 13, 18, 3)
    eager = blind_spots(tf.constant(images), key())

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3])])
    def of_picture(picture):
        spots = blind_spots(picture, key(2))
        assert spots.mask.shape.as_list() == [1, None, None, 1]
        return spots

    for found, expected in zip(of_picture(images[2:]), eager, strict=True):
        np.testing.assert_array_equal(found, expected[2:])


@pytest.mark.parametrize("name", ["unet", "resunet"])
def test_an_output_does_not_depend_on_its_own_masked_pixel(name):
    """The gradient at each masked pixel, by the pixel before masking, is exactly 0."""
    values = np.random.default_rng(1).normal(0.5, 1, (1, 16, 16, 1))
    images = tf.constant(values, tf.float32)
    config = Config(
        model=name,
        filters=4,
        loss="mse",
        supervision="noise2void",
        corruption="none",
    )
    model = build_model(config, (16, 16, 1)).model
    mask = blind_spots(images, key()).mask.numpy()[0, ..., 0]

    @tf.function
    def gradient(y, x):
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = model(blind_spots(images, key()).masked)[0, y, x, 0]
        return tape.gradient(output, images)[0, :, :, 0]

    others, neighbors = [], []
    for y, x in np.ndindex(16, 16):
        found = gradient(tf.constant(y), tf.constant(x)).numpy()
        if mask[y, x]:
            assert found[y, x] == 0
            neighbors.append(np.abs(found).max())
        else:
            others.append(found[y, x])
    assert np.abs(others).max() > 0 and max(neighbors) > 0
