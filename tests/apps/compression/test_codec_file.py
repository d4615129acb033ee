import errno
import os
import re
import sys

import numpy as np
import pytest
import tensorflow as tf
from codec_runs import round_trip, save_weights, some_images, untrained_run
from conftest import write_idx

from aelab.apps.compression import codec, decompress
from aelab.apps.compression.codec import open_codec
from aelab.apps.compression.codec_file import _rename_new
from aelab.config import FORMAT, from_json
from aelab.data.idx import read_idx
from aelab.errors import FormatError, UsageError
from aelab.models import build_model
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory

DESCRIPTION = ("format", "config", "image_shape")


class Example:
    """A run of its own with one compressed file."""

    def __init__(self, folder):
        self.folder = folder
        self.run_dir = untrained_run(
            folder / "run", model="dense", encoding_dim=4, train_examples=40
        )
        write_idx(folder / "images", some_images(5)[..., 0])
        self.file, done = round_trip(self.run_dir, [folder / "images"], folder)
        self.images = read_idx(done.files[0], 3)
        (name,) = os.listdir(folder / "run" / "codec")
        self.path = str(folder / "run" / "codec" / name)

    def change(self, remove=(), **arrays):
        """Changes arrays of the codec's file."""
        content = checkpoints.load(self.path) | arrays
        np.savez(self.path, **{n: a for n, a in content.items() if n not in remove})

    def read_again(self):
        """Decompresses the file, and checks that it gives the same images."""
        done = decompress(self.run_dir, self.file, str(self.folder / "again"))
        np.testing.assert_array_equal(read_idx(done.files[0], 3), self.images)

    def refusal(self):
        """The message that refuses to decompress the file; nothing is written."""
        with pytest.raises(UsageError) as caught:
            decompress(self.run_dir, self.file, str(self.folder / "refused"))
        assert not (self.folder / "refused").exists()
        return str(caught.value)


@pytest.fixture
def example(tmp_path):
    return Example(tmp_path)


def test_a_codec_describes_its_model(example):
    with np.load(example.path) as file:
        arrays = dict(file)
    assert arrays["format"] == FORMAT == 2
    assert arrays["format"].dtype == arrays["image_shape"].dtype == np.int64
    assert arrays["image_shape"].tolist() == [28, 28, 1]
    assert arrays["config"].dtype == np.uint8
    config = from_json(arrays["config"].tobytes().decode(), example.path)
    assert config == RunDirectory(example.run_dir).read_config()


def test_decompressing_needs_only_the_existence_of_config_json(example):
    config_json = example.folder / "run" / "config.json"
    config_json.write_text("{")
    example.read_again()
    config_json.unlink()
    assert "holds no run" in example.refusal()


def test_a_run_that_has_continued_still_decodes_its_older_files(example):
    run = RunDirectory(example.run_dir)
    autoencoder = build_model(run.read_config(), (28, 28, 1))
    for variable in autoencoder.variables:
        variable.assign_add(tf.ones(variable.shape))
    save_weights(run, autoencoder, step=20)
    newer = open_codec(run)
    assert f"{newer.key.hex()}.npz" != os.path.basename(example.path)
    example.read_again()


def test_a_run_that_cannot_keep_its_tables_is_refused_before_they_are_fitted(
    example, monkeypatch
):
    def fail(**arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    monkeypatch.setattr(codec, "_fit", None)
    open_codec(RunDirectory(example.run_dir))
    os.remove(example.path)
    with pytest.raises(UsageError, match=f"^--run_dir={example.run_dir}, .* written"):
        open_codec(RunDirectory(example.run_dir))


def test_a_file_of_format_1_is_read_with_the_configuration_of_the_run(example):
    example.change(remove=DESCRIPTION)
    example.read_again()
    assert "format" not in checkpoints.load(example.path)
    open_codec(RunDirectory(example.run_dir))
    (example.folder / "run" / "config.json").write_text("{")
    assert "config.json" in example.refusal()


def test_a_later_format_is_refused_with_both_numbers(example):
    example.change(format=np.asarray(3))
    message = f"{example.path} has format 3, .* reads formats up to 2"
    assert re.match(message, example.refusal())
    with pytest.raises(FormatError, match="formats up to 2"):
        open_codec(RunDirectory(example.run_dir))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model/code/bias": np.ones(4, np.float32)}, "weights do not match its name"),
        ({"remove": ["image_shape"]}, "image_shape"),
        ({"config": np.frombuffer(b"{", np.uint8)}, "is not JSON"),
        ({"config": np.frombuffer(b"\xff", np.uint8)}, "utf-8"),
        ({"image_shape": np.asarray([28, 28])}, "is damaged"),
        ({"image_shape": np.asarray([14, 28, 1])}, "of another model"),
        ({"format": np.asarray([2, 2])}, "not an integer"),
        ({"remove": ["tables/sizes"]}, "tables/sizes"),
    ],
)
def test_a_damaged_codec_is_refused(example, change, words):
    example.change(**change)
    message = example.refusal()
    assert example.path in message and words in message


def test_a_missing_library_is_not_reported_as_damage(example, monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    message = example.refusal()
    assert "[codec]" in message and "damaged" not in message


def test_another_model_is_refused(example, tmp_path):
    other = untrained_run(tmp_path / "other", model="dense", encoding_dim=5)
    example.run_dir = other
    assert "does not have" in example.refusal()


@pytest.mark.parametrize("has_links", [True, False])
def test_the_first_of_two_writers_wins_with_and_without_hard_links(
    tmp_path, monkeypatch, has_links
):
    def refuse(*paths):
        raise OSError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    for name in ("one", "other"):
        (tmp_path / name).write_text(name)
        _rename_new(str(tmp_path / name), str(tmp_path / "codec"))
    assert (tmp_path / "codec").read_text() == "one"
