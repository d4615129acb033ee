import gzip
import os
import shutil
import socket
import urllib.request
from urllib.error import URLError

import numpy as np
import pytest
from conftest import write_idx
from keras.src.backend import config as keras_config
from keras.src.utils import file_utils

from aelab.config import Config
from aelab.data import official_files
from aelab.data.idx import read_idx
from aelab.data.sources import load_splits
from aelab.errors import UsageError
from aelab.training.run import train_and_evaluate

TRAIN = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
EVAL = "t10k-images-idx3-ubyte"
EVAL_LABELS = "t10k-labels-idx1-ubyte"
FILES = [f"{name}.gz" for name in (TRAIN, TRAIN_LABELS, EVAL, EVAL_LABELS)]


def load(folder, **values):
    return load_splits(Config(dataset="idx", data_dir=str(folder), **values))


def refusal(config):
    with pytest.raises(UsageError) as caught:
        load_splits(config)
    return str(caught.value)


def idx_refusal(folder, **values):
    return refusal(Config(dataset="idx", data_dir=str(folder), **values))


def unzip(path):
    """Replaces NAME.gz by NAME."""
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()


def assert_holds(source, images, labels):
    """Asserts that the source has `images`, uint8 [n, H, W], in this order."""
    assert (len(source), source.image_shape) == (len(images), (*images.shape[1:], 1))
    read = source.read(np.arange(len(images)))
    np.testing.assert_array_equal(read, images[..., np.newaxis], strict=True)
    np.testing.assert_array_equal(source.labels, labels, strict=True)


def test_idx_files_are_read_with_labels(idx_folder):
    splits = load(idx_folder)
    for source, images, labels in (
        (splits.train, TRAIN, TRAIN_LABELS),
        (splits.eval, EVAL, EVAL_LABELS),
    ):
        images, labels = (
            read_idx(str(idx_folder / f"{name}.gz"), dimensions)
            for name, dimensions in ((images, 3), (labels, 1))
        )
        assert_holds(source, images, labels)
    description = splits.describe()
    assert description["image_shape"] == [12, 16, 1]
    assert description["train"] == splits.train.fingerprint != description["eval"]


@pytest.mark.parametrize("names", [FILES, FILES[:1], FILES[1:3]])
def test_gzipped_and_raw_files_can_be_mixed(idx_folder, names):
    expected = load(idx_folder)
    for name in names:
        unzip(idx_folder / name)
    splits = load(idx_folder)
    assert splits.describe() == expected.describe()
    np.testing.assert_array_equal(splits.eval.labels, expected.eval.labels)


def test_labels_are_optional(idx_folder):
    expected = load(idx_folder).describe()
    (idx_folder / f"{TRAIN_LABELS}.gz").unlink()
    splits = load(idx_folder)
    assert splits.train.labels is None and len(splits.eval.labels) == 21
    assert splits.describe() == expected


def dotted(path):
    """Renames `train-images-idx3-ubyte.gz` to `train-images.idx3-ubyte.gz`."""
    return path.rename(path.with_name(path.name.replace("-idx", ".idx")))


def into_folder(path):
    """Unpacks NAME.gz to NAME/NAME."""
    content = gzip.decompress(path.read_bytes())
    path.unlink()
    path.with_suffix("").mkdir()
    (path.with_suffix("") / path.stem).write_bytes(content)


def unpacked(path):
    """Unpacks a file that keeps the name NAME.gz."""
    path.write_bytes(gzip.decompress(path.read_bytes()))


OTHER_FORMS = [
    dotted,
    into_folder,
    unpacked,
    lambda path: unzip(dotted(path)),
    lambda path: into_folder(dotted(path)),
]


@pytest.mark.parametrize("change", OTHER_FORMS)
def test_files_as_other_programs_name_and_unpack_them(idx_folder, change):
    expected = load(idx_folder)
    for name in FILES:
        change(idx_folder / name)
    splits = load(idx_folder)
    assert splits.describe() == expected.describe()
    np.testing.assert_array_equal(splits.eval.labels, expected.eval.labels)


def test_an_empty_folder_of_a_files_name_is_not_the_file(idx_folder):
    (idx_folder / TRAIN).mkdir()
    assert len(load(idx_folder).train) == 50
    (idx_folder / f"{TRAIN}.gz").unlink()
    assert f"has no {TRAIN}, with or without .gz" in idx_refusal(idx_folder)


def test_a_missing_data_dir_is_reported(tmp_path, idx_folder):
    file = idx_folder / f"{TRAIN}.gz"
    for folder in (tmp_path / "none", file):
        message = idx_refusal(folder)
        assert f"--data_dir={folder}" in message and "not a folder" in message


@pytest.mark.parametrize("name", [TRAIN, EVAL])
def test_missing_images_are_reported(idx_folder, name):
    (idx_folder / f"{name}.gz").unlink()
    message = idx_refusal(idx_folder)
    assert f"--data_dir={idx_folder}" in message and name in message


@pytest.mark.parametrize("count", [20, 51])
@pytest.mark.parametrize(
    ("name", "images"), [(TRAIN_LABELS, TRAIN), (EVAL_LABELS, EVAL)]
)
def test_another_number_of_labels_is_refused(idx_folder, name, images, count):
    write_idx(idx_folder / f"{name}.gz", np.zeros(count, np.uint8))
    message = idx_refusal(idx_folder)
    for word in (f"{name}.gz", f"{images}.gz", f"{count} labels"):
        assert word in message


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder where Keras keeps Fashion-MNIST; downloads fail."""

    def fail(url, *arguments):
        raise URLError("refused")

    home = tmp_path / "keras"
    home.mkdir()  # Keras falls back to /tmp/.keras where it can't write
    monkeypatch.setenv("KERAS_HOME", str(home))
    monkeypatch.setattr(keras_config, "_KERAS_DIR", str(home))  # read at its import
    monkeypatch.setattr(file_utils, "urlretrieve", fail)
    monkeypatch.setattr(official_files, "DEBIAN_FOLDER", str(tmp_path / "debian"))
    return home / "datasets" / "fashion-mnist"


FASHION_MNIST = Config(dataset="fashion_mnist")


def write_set(folder, count):
    """Writes a set of `count` images in each part."""
    folder.mkdir(parents=True)
    for name in FILES:
        shape = (count, 28, 28) if "images" in name else (count,)
        write_idx(folder / name, np.zeros(shape, np.uint8))


def test_fashion_mnist_is_read_from_the_cache(cache, idx_folder):
    shutil.copytree(idx_folder, cache)
    splits = load_splits(FASHION_MNIST)
    assert splits.describe() == load(idx_folder).describe()
    assert len(splits.train.labels) == 50


def test_fashion_mnist_is_downloaded_once(cache, tmp_path, monkeypatch, capfd):
    downloads = []

    def download(url, path, *arguments):
        name = url.split("/")[-1]
        downloads.append(name)
        shape = (5, 28, 28) if "images" in name else (5,)
        write_idx(tmp_path / name, np.zeros(shape, np.uint8))
        shutil.copy(tmp_path / name, path)

    monkeypatch.setattr(file_utils, "urlretrieve", download)
    for _ in range(2):
        assert load_splits(FASHION_MNIST).train.image_shape == (28, 28, 1)
    assert sorted(downloads) == sorted(FILES) == sorted(os.listdir(cache))
    assert capfd.readouterr().err == ""


def test_half_a_download_in_the_cache_should_be_deleted(cache, idx_folder):
    shutil.copytree(idx_folder, cache)
    path = cache / f"{TRAIN}.gz"
    path.write_bytes(path.read_bytes()[:-100])
    advice = f"if {cache} has an incomplete download, delete it to download it again"
    message = refusal(FASHION_MNIST)
    assert str(path) in message and message.endswith(advice)
    (cache / f"{EVAL}.gz").unlink()
    assert refusal(FASHION_MNIST).endswith(advice)


@pytest.mark.parametrize("change", [lambda path: None, unzip, into_folder])
def test_the_folder_of_debians_package_comes_first(cache, tmp_path, idx_folder, change):
    """The cache holds another set, and is used unless all images are there."""
    expected = load(idx_folder).describe()
    write_set(cache, 3)
    debian = tmp_path / "debian"
    debian.mkdir()
    for name in [*FILES[1::2], *FILES[::2]]:  # labels are optional
        assert len(load_splits(FASHION_MNIST).train) == 3
        shutil.copy(idx_folder / name, debian)
        change(debian / name)
    assert load_splits(FASHION_MNIST).describe() == expected


@pytest.mark.parametrize("missing", [FILES, FILES[3:]])
def test_a_failed_download_says_what_to_do(cache, idx_folder, missing):
    shutil.copytree(idx_folder, cache)
    for name in missing:
        (cache / name).unlink()
    message = refusal(FASHION_MNIST)
    for word in (*FILES, str(cache), "--dataset=synthetic", "URL fetch failure"):
        assert word in message


def test_without_a_network_no_run_is_started(tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refuses at once
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "")
        # urllib keeps the proxies of its first request of a process.
        monkeypatch.setattr(urllib.request, "_opener", None)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setattr(keras_config, "_KERAS_DIR", str(tmp_path))
        monkeypatch.setattr(official_files, "DEBIAN_FOLDER", str(tmp_path / "debian"))
        run_dir = tmp_path / "run"
        with pytest.raises(UsageError) as caught:
            train_and_evaluate(FASHION_MNIST, str(run_dir))
    folder = tmp_path / "datasets" / "fashion-mnist"
    for word in (*FILES, str(folder), "--dataset=synthetic", "URL fetch failure"):
        assert word in str(caught.value)
    assert not run_dir.exists()
