"""The projector's files; test_tensorboard.py shows them to TensorBoard."""

import dataclasses
import errno
import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins import projector as plugin

from aelab.config import Config
from aelab.data.pipeline import make_eval_dataset
from aelab.data.sources import ArraySource
from aelab.models import Autoencoder
from aelab.summaries import projector
from aelab.summaries.projector import draw_sprite, write_projector
from aelab.system import files as writing
from aelab.training.samples import first_codes

CONFIG = Config(noise_stddev=0.3)
FILES = ["code.tsv", "labels.tsv", "projector_config.pbtxt", "sprite.png"]


def source(count, height=8, width=12, channels=1, labels=None):
    generator = np.random.default_rng(0)
    shape = (count, height, width, channels)
    return ArraySource(generator.integers(0, 256, shape, np.uint8), labels)


def encoder(image_shape, size=3):
    return keras.Sequential(
        [keras.Input(image_shape), keras.layers.Flatten(), keras.layers.Dense(size)]
    )


def write_codes(folder, images, config, encoder):
    """Writes the files for the codes of images, if they are short enough."""
    decoder = SimpleNamespace(inputs=encoder.outputs)
    codes = first_codes(Autoencoder(None, encoder, decoder), images, config)
    if codes:
        write_projector(str(folder), *codes)


@pytest.fixture
def write(tmp_path):
    """Writes the files for images, and reads the configuration back."""

    def written(images, size=3):
        model = encoder(images.image_shape, size)
        write_codes(tmp_path, images, CONFIG, model)
        assert sorted(os.listdir(tmp_path)) == FILES
        text = (tmp_path / "projector_config.pbtxt").read_text()
        (found,) = text_format.Parse(text, plugin.ProjectorConfig()).embeddings
        return found, model

    return written


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_codes_equal_the_codes_of_an_evaluation(tmp_path, write, count):
    """For any number of images, in batches of up to 100."""
    images = source(count)
    found, model = write(images)
    codes = np.loadtxt(tmp_path / found.tensor_path, delimiter="\t", ndmin=2)
    assert list(found.tensor_shape) == [count, 3]
    whole = dataclasses.replace(CONFIG, batch_size=count)
    corrupted, _, _ = next(iter(make_eval_dataset(images, whole)))
    np.testing.assert_allclose(codes, model(corrupted), rtol=1e-4, atol=1e-5)


def test_images_are_encoded_in_batches_of_the_batch_size(tmp_path):
    sizes, model = [], encoder((8, 12, 1))

    class Counting:
        outputs = model.outputs

        def __call__(self, images, training):
            sizes.append(len(images))
            return model(images)

    few = dataclasses.replace(CONFIG, batch_size=4)
    write_codes(tmp_path, source(10), few, Counting())
    assert sizes == [4, 4, 4]


def test_the_first_thousand_images_are_enough(tmp_path, write):
    found, _ = write(source(1003, 4, 4, labels=np.arange(1003)))
    assert list(found.tensor_shape) == [1000, 3]
    for path, lines in ((found.tensor_path, 1000), (found.metadata_path, 1001)):
        assert len((tmp_path / path).read_text().splitlines()) == lines
    # 32 x 32 thumbnails hold a thousand.
    with Image.open(tmp_path / found.sprite.image_path) as sprite:
        assert sprite.size == (128, 128)


def test_labels_are_next_to_the_numbers_of_images(tmp_path, write):
    found, _ = write(source(3, labels=np.array([7, 0, 7], np.uint8)))
    table = (tmp_path / found.metadata_path).read_text()
    assert table == "label\timage\n7\t0\n0\t1\n7\t2\n"


def test_without_labels_there_are_only_numbers(tmp_path, write):
    """And no header, which the plugin expects only with several columns."""
    found, _ = write(source(3))
    assert (tmp_path / found.metadata_path).read_text() == "0\n1\n2\n"


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_are_the_clean_images_in_order(tmp_path, write, channels):
    images = source(5, channels=channels)
    found, _ = write(images)
    picture = np.asarray(Image.open(tmp_path / found.sprite.image_path))
    width, height = found.sprite.single_image_dim
    assert (width, height) == (12, 8)
    for number, image in enumerate(images.read(np.arange(5))):
        top, left = height * (number // 3), width * (number % 3)
        tile = picture[top : top + height, left : left + width]
        np.testing.assert_array_equal(tile, np.squeeze(image))


@pytest.mark.parametrize(
    ("height", "width", "size"), [(96, 96, (48, 48)), (96, 24, (12, 48))]
)
def test_thumbnails_of_large_images_are_means_of_pixels(
    tmp_path, write, height, width, size
):
    images = source(1, height, width)
    found, _ = write(images)
    assert tuple(found.sprite.single_image_dim) == size
    picture = np.asarray(Image.open(tmp_path / found.sprite.image_path), np.float64)
    image = images.read(np.arange(1))[0, ..., 0]
    blocks = image.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(picture, blocks, atol=0.501)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 10])
def test_a_sprite_is_the_smallest_square_that_fits(count):
    thumbnails = np.full((count, 2, 3, 1), 255, np.uint8)
    sprite = draw_sprite(thumbnails)
    side = sprite.shape[0] // 2
    assert sprite.shape == (2 * side, 3 * side, 1)
    assert (side - 1) ** 2 < count <= side**2
    assert sprite.astype(int).sum() == 255 * count * 6


@pytest.mark.parametrize(("size", "files"), [(512, FILES), (513, [])])
def test_a_long_code_is_left_out(tmp_path, size, files):
    images = source(2)
    write_codes(tmp_path, images, CONFIG, encoder(images.image_shape, size))
    assert sorted(os.listdir(tmp_path)) == files


def test_the_configuration_is_written_last(tmp_path, monkeypatch):
    """So that it names only files that exist."""

    def full_at_the_sprite(path, content):
        if path.endswith("sprite.png"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        writing.write_bytes(path, content)

    monkeypatch.setattr(projector, "write_bytes", full_at_the_sprite)
    images = source(2)
    with pytest.raises(OSError, match="No space left"):
        write_codes(tmp_path, images, CONFIG, encoder(images.image_shape))
    assert "projector_config.pbtxt" not in os.listdir(tmp_path)
