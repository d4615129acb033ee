import os

import numpy as np
import pytest
from conftest import write_idx
from test_official_files import EVAL, EVAL_LABELS, assert_holds, idx_refusal, load

from aelab.config import FIELDS, Config
from aelab.config.registry import SOURCES
from aelab.data.sources import ArraySource, load_part, load_splits
from aelab.data.synthetic import draw_images
from aelab.errors import UsageError

IMAGES = np.random.default_rng(1).integers(0, 256, (9, 4, 6, 2), dtype=np.uint8)


def test_config_offers_all_sources():
    assert tuple(SOURCES) == FIELDS["dataset"].metadata["choices"]


@pytest.mark.parametrize("indices", [[0], [8, 0, 8, 3], list(range(9))])
def test_an_array_source_reads_the_requested_images(indices):
    source = ArraySource(IMAGES)
    assert (len(source), source.image_shape, source.labels) == (9, (4, 6, 2), None)
    images = source.read(np.array(indices, np.int64))
    np.testing.assert_array_equal(images, IMAGES[indices], strict=True)


def test_equal_images_have_equal_fingerprints():
    expected = ArraySource(IMAGES).fingerprint
    strided = np.repeat(IMAGES, 2, axis=0)[::2]
    fortran = np.asfortranarray(IMAGES)
    labels = np.zeros(9, np.uint8)
    assert ArraySource(strided).fingerprint == expected
    assert ArraySource(fortran, labels).fingerprint == expected


def test_different_images_have_different_fingerprints():
    pixel = IMAGES.copy()
    pixel[4, 2, 3, 1] ^= 1
    others = [IMAGES[::-1], pixel, IMAGES.reshape(9, 6, 4, 2), IMAGES[:8]]
    prints = {ArraySource(images).fingerprint for images in [IMAGES, *others]}
    assert len(prints) == 5


@pytest.mark.parametrize("shape", [(16, 12), (12, 15)])
def test_splits_with_different_image_sizes_are_refused(idx_folder, shape):
    write_idx(idx_folder / f"{EVAL}.gz", np.zeros((21, *shape), np.uint8))
    message = idx_refusal(idx_folder)
    assert str(idx_folder) in message
    assert "(12, 16, 1)" in message and f"({shape[0]}, {shape[1]}, 1)" in message


def test_the_number_of_examples_takes_the_first_images(idx_folder):
    whole, cut = load(idx_folder), load(idx_folder, train_examples=7, eval_examples=1)
    for part, full, count in ((cut.train, whole.train, 7), (cut.eval, whole.eval, 1)):
        images = full.read(np.arange(count))
        assert_holds(part, images[..., 0], full.labels[:count])
        assert part.fingerprint == ArraySource(images).fingerprint
    assert len(load(idx_folder, train_examples=50, eval_examples=21).train) == 50


def test_the_last_training_images_validate(idx_folder):
    whole = load(idx_folder).train
    for name in (EVAL, EVAL_LABELS):  # training does not read them
        os.remove(idx_folder / f"{name}.gz")
    splits = load(idx_folder, validation_examples=8)
    images = whole.read(np.arange(50))[..., 0]
    assert_holds(splits.train, images[:42], whole.labels[:42])
    assert_holds(splits.eval, images[42:], whole.labels[42:])
    few = load(idx_folder, validation_examples=8, train_examples=5, eval_examples=3)
    assert_holds(few.train, images[:5], whole.labels[:5])
    assert_holds(few.eval, images[42:45], whole.labels[42:45])


def test_a_limit_on_validation_images_does_not_limit_test_images(idx_folder):
    values = {"validation_examples": 8, "eval_examples": 3}
    config = Config(dataset="idx", data_dir=str(idx_folder), **values)
    assert len(load_part(config, "test")) == 21
    assert len(load_part(config, "validation")) == 3


@pytest.mark.parametrize("values", [{}, {"train_examples": 59_000}])
def test_embedded_validation_images_follow_the_training_images(values):
    config = Config(validation_examples=1000, **values)
    splits = load_splits(config)
    assert (len(splits.train), len(splits.eval)) == (59_000, 1000)
    images, labels = draw_images(60_000, 1)
    assert_holds(splits.eval, images[59_000:, ..., 0], labels[59_000:])


def test_a_validation_part_that_leaves_nothing_to_train_on_is_refused(idx_folder):
    message = idx_refusal(idx_folder, validation_examples=50)
    assert "--validation_examples=50" in message and "50 training images" in message


def test_a_part_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="no validation part: --validation_examples=0"):
        load_part(Config(train_examples=9), "validation")


@pytest.mark.parametrize(("name", "count"), [("train", 50), ("eval", 21)])
def test_more_examples_than_images_are_refused(idx_folder, name, count):
    message = idx_refusal(idx_folder, **{f"{name}_examples": count + 1})
    assert f"--{name}_examples={count + 1}" in message and f"{count} images" in message


def test_images_are_in_memory_once():
    """Before and after the tensor is made, for a whole set and for its first part."""
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1), np.uint8)
    for source in (ArraySource(images.copy()), ArraySource(images.copy()).take(20)):
        expected = images[: len(source)]
        fingerprint = source.fingerprint
        tensor = source.tensor()
        assert source.tensor() is tensor
        np.testing.assert_array_equal(tensor, expected)
        assert np.shares_memory(source._images, np.asarray(memoryview(tensor)))
        np.testing.assert_array_equal(source.read(np.arange(len(source))), expected)
        assert source.take(10).fingerprint == ArraySource(expected[:10]).fingerprint
        assert ArraySource(expected).fingerprint == fingerprint
