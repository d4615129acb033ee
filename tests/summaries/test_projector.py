"""The projector's files; test_tensorboard.py has what TensorBoard shows of them."""

import dataclasses
import errno
import os

import keras
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins import projector as plugin

from aelab.config import Config
from aelab.data.pipeline import make_eval_dataset
from aelab.data.sources import ArraySource
from aelab.summaries import projector
from aelab.summaries.projector import draw_sprite, write_projector
from aelab.system import files as writing

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


@pytest.fixture
def write(tmp_path):
    """Writes the files of images, and reads the configuration back."""

    def written(images, size=3):
        model = encoder(images.image_shape, size)
        write_projector(str(tmp_path), images, CONFIG, model)
        assert sorted(os.listdir(tmp_path)) == FILES
        text = (tmp_path / "projector_config.pbtxt").read_text()
        (embedding,) = text_format.Parse(text, plugin.ProjectorConfig()).embeddings
        return embedding, model

    return written


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_codes_are_the_codes_of_an_evaluation(tmp_path, write, count):
    """For any number of images that are encoded at a time."""
    images = source(count)
    embedding, model = write(images)
    codes = np.loadtxt(tmp_path / embedding.tensor_path, delimiter="\t", ndmin=2)
    assert list(embedding.tensor_shape) == [count, 3]
    whole = dataclasses.replace(CONFIG, batch_size=count)
    corrupted, _, _ = next(iter(make_eval_dataset(images, whole)))
    np.testing.assert_allclose(codes, model(corrupted), rtol=1e-4, atol=1e-5)


def test_at_most_a_batch_of_images_is_encoded_at_a_time(tmp_path):
    sizes, model = [], encoder((8, 12, 1))

    class Counting:
        outputs = model.outputs

        def __call__(self, images, training):
            sizes.append(len(images))
            return model(images)

    few = dataclasses.replace(CONFIG, batch_size=4)
    write_projector(str(tmp_path), source(10), few, Counting())
    assert sizes == [4, 4, 4]


def test_at_most_the_first_thousand_images_are_written(tmp_path, write):
    embedding, _ = write(source(1003, 4, 4, labels=np.arange(1003)))
    assert list(embedding.tensor_shape) == [1000, 3]
    for path, lines in ((embedding.tensor_path, 1000), (embedding.metadata_path, 1001)):
        assert len((tmp_path / path).read_text().splitlines()) == lines
    # 32 x 32 thumbnails hold a thousand.
    with Image.open(tmp_path / embedding.sprite.image_path) as sprite:
        assert sprite.size == (128, 128)


def test_the_table_has_the_label_and_number_of_each_image(tmp_path, write):
    embedding, _ = write(source(3, labels=np.array([7, 0, 7], np.uint8)))
    table = (tmp_path / embedding.metadata_path).read_text()
    assert table == "label\timage\n7\t0\n0\t1\n7\t2\n"


def test_without_labels_the_table_has_only_numbers(tmp_path, write):
    """And no header, which the plugin expects only of several columns."""
    embedding, _ = write(source(3))
    assert (tmp_path / embedding.metadata_path).read_text() == "0\n1\n2\n"


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_are_the_clean_images_in_order(tmp_path, write, channels):
    images = source(5, channels=channels)
    embedding, _ = write(images)
    picture = np.asarray(Image.open(tmp_path / embedding.sprite.image_path))
    width, height = embedding.sprite.single_image_dim
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
    embedding, _ = write(images)
    assert tuple(embedding.sprite.single_image_dim) == size
    picture = np.asarray(Image.open(tmp_path / embedding.sprite.image_path), np.float64)
    image = images.read(np.arange(1))[0, ..., 0]
    blocks = image.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(picture, blocks, atol=0.501)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 10])
def test_a_sprite_is_the_smallest_square_of_all_thumbnails(count):
    thumbnails = np.full((count, 2, 3, 1), 255, np.uint8)
    sprite = draw_sprite(thumbnails)
    side = sprite.shape[0] // 2
    assert sprite.shape == (2 * side, 3 * side, 1)
    assert (side - 1) ** 2 < count <= side**2
    assert sprite.astype(int).sum() == 255 * count * 6


@pytest.mark.parametrize(("size", "files"), [(512, FILES), (513, [])])
def test_a_long_code_is_left_out(tmp_path, size, files):
    images = source(2)
    write_projector(str(tmp_path), images, CONFIG, encoder(images.image_shape, size))
    assert sorted(os.listdir(tmp_path)) == files


def test_the_configuration_is_written_last(tmp_path, monkeypatch):
    """So all files that it names exist."""

    def full_at_the_sprite(path, content):
        if path.endswith("sprite.png"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        writing.write_bytes(path, content)

    monkeypatch.setattr(projector, "write_bytes", full_at_the_sprite)
    images = source(2)
    with pytest.raises(OSError, match="No space left"):
        write_projector(str(tmp_path), images, CONFIG, encoder(images.image_shape))
    assert "projector_config.pbtxt" not in os.listdir(tmp_path)
