"""Image sources: random access to the images of a data set, by the set's name.

Nothing outside a source knows how large an image is or where it comes from.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from aelab import synthetic
from aelab.config import Config
from aelab.errors import UsageError
from aelab.idx import read_idx


class Source(Protocol):
    """Images by their index, the same ones each time.

    Attributes:
      image_shape: (height, width, channels) of every image.
      fingerprint: a short text that is equal for equal images in equal order.
    """

    image_shape: tuple[int, int, int]
    fingerprint: str

    def __len__(self) -> int:
        """The number of images, at least 1."""

    def images(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices` (int64 [n]): uint8 [n, height, width, channels]."""


class ArraySource:
    """A source whose images are in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray | None = None):
        """Takes `images`, uint8 [n, H, W, C], and `labels`, uint8 [n], if known."""
        self._images = images
        self.labels = labels
        self.image_shape: tuple[int, int, int] = images.shape[1:]
        digest = hashlib.sha256(repr(images.shape).encode())
        digest.update(np.ascontiguousarray(images).data)
        self.fingerprint = f"{len(images)} images, sha256 {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self._images)

    def images(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices` (int64 [n]): uint8 [n, height, width, channels]."""
        chosen: np.ndarray = self._images[indices]
        return chosen


class Arrays(NamedTuple):
    """One part of a data set: uint8 [n, H, W, C], and uint8 [n] or None."""

    images: np.ndarray
    labels: np.ndarray | None


class Splits(NamedTuple):
    """The two parts of a data set: one to train on, one that the model never sees."""

    train: Source
    eval: Source

    def describe(self) -> dict[str, Any]:
        """What tells this data set from others, to be kept beside a run's results."""
        return {
            "train": self.train.fingerprint,
            "eval": self.eval.fingerprint,
            "image_shape": list(self.train.image_shape),
        }


_PREFIXES = {"train": "train", "eval": "t10k"}
# Which synthetic set is meant; it is one set, as a download would be, so `--seed`, by
# which runs on the same set are told apart, does not change it.
_SYNTHETIC = {"train": (60_000, 1), "eval": (10_000, 2)}


def _synthetic(config: Config, split: str, examples: int) -> Arrays:
    """The embedded set: as many images as asked for, 60,000 and 10,000 otherwise."""
    count, seed = _SYNTHETIC[split]
    return Arrays(*synthetic.draw_images(examples or count, seed))


def _idx(config: Config, split: str, examples: int) -> Arrays:
    return read_idx_split(config.data_dir, split)


def _fashion_mnist(config: Config, split: str, examples: int) -> Arrays:
    """Fashion-MNIST (Xiao et al. 2017) from Keras' cache, downloaded if need be."""
    import keras

    folder = os.path.join(keras.config.keras_home(), "datasets", "fashion-mnist")
    names = [
        f"{prefix}-{kind}-ubyte.gz"
        for prefix in _PREFIXES.values()
        for kind in ("images-idx3", "labels-idx1")
    ]
    if not all(os.path.exists(os.path.join(folder, name)) for name in names):
        try:
            with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
                keras.datasets.fashion_mnist.load_data()
        except Exception as error:  # Keras raises bare `Exception` when offline
            raise UsageError(
                "--dataset=fashion_mnist: Keras could not download the set "
                f"({error}). Put {', '.join(names)} into {folder}, or use "
                "--dataset=synthetic, which needs no files"
            ) from None
    return read_idx_split(folder, split)


SOURCES: dict[str, Callable[[Config, str, int], Arrays]] = {
    "synthetic": _synthetic,
    "fashion_mnist": _fashion_mnist,
    "idx": _idx,
}


def load_splits(config: Config) -> Splits:
    """The two sources that `config` names.

    Raises:
      UsageError: files are missing or bad, the two parts differ in image size, or
        fewer images are there than asked for.
    """
    parts = [
        _load(config, "train", config.train_examples),
        _load(config, "eval", config.eval_examples),
    ]
    shapes = [part.image_shape for part in parts]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"training images are {shapes[0]} and evaluation images {shapes[1]} "
            f"(height, width, channels) in {config.data_dir}: they must be alike"
        )
    return Splits(*parts)


def _load(config: Config, split: str, examples: int) -> ArraySource:
    images, labels = SOURCES[config.dataset](config, split, examples)
    if examples > len(images):
        raise UsageError(
            f"--{split}_examples={examples} is more than the {len(images)} images "
            f"that --dataset={config.dataset} has"
        )
    count = examples or len(images)
    return ArraySource(images[:count], None if labels is None else labels[:count])


def read_idx_split(folder: str, split: str) -> Arrays:
    """Reads one part of a set in the four official files, gzipped or not.

    Args:
      folder: where `{train,t10k}-images-idx3-ubyte[.gz]` are, and the labels if any.
      split: `train` or `eval`.

    Returns:
      Images uint8 [n, H, W, 1], labels uint8 [n] or None.

    Raises:
      UsageError: no such folder or file, or a file that `read_idx` refuses, or not a
        label for each image.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"--data_dir={folder} is not a folder")
    prefix = _PREFIXES[split]
    path = _find(folder, f"{prefix}-images-idx3-ubyte")
    if path is None:
        raise UsageError(
            f"--data_dir={folder} has no {prefix}-images-idx3-ubyte, "
            "with or without .gz"
        )
    images = read_idx(path, dimensions=3)
    labels_path = _find(folder, f"{prefix}-labels-idx1-ubyte")
    labels = read_idx(labels_path, dimensions=1) if labels_path else None
    if labels is not None and len(labels) != len(images):
        raise UsageError(
            f"{labels_path} has {len(labels)} labels for the {len(images)} images "
            f"of {path}"
        )
    return Arrays(images[..., np.newaxis], labels)


def _find(folder: str, name: str) -> str | None:
    """The path of `name` or `name.gz` in `folder`, None if neither is there."""
    for path in (os.path.join(folder, name), os.path.join(folder, f"{name}.gz")):
        if os.path.exists(path):
            return path
    return None
