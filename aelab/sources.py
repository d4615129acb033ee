"""Image sources: random access to the images of a data set, by the set's name.

Nothing outside a source knows how large an image is or where it comes from.
"""

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


Parts = tuple[Arrays, Arrays]  # to train on, and to evaluate on

# Of the embedded set: how many images if no number is asked for, and the seed. It is
# one set, as a download would be, so `--seed`, by which runs on one set are told apart,
# does not change it.
_SYNTHETIC_TRAIN = (60_000, 1)
_SYNTHETIC_EVAL = (10_000, 2)

_OFFICIAL_FILES = tuple(
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


def _synthetic(config: Config) -> Parts:
    """The embedded set: as many images as asked for."""
    asked = (config.train_examples, config.eval_examples)
    train, held_out = (
        Arrays(*synthetic.draw_images(examples or count, seed))
        for examples, (count, seed) in zip(
            asked, (_SYNTHETIC_TRAIN, _SYNTHETIC_EVAL), strict=True
        )
    )
    return train, held_out


def _fashion_mnist(config: Config) -> Parts:
    """Fashion-MNIST (Xiao et al. 2017) from Keras' cache, downloaded if need be."""
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    folder = os.path.join(home, "datasets", "fashion-mnist")
    if all(os.path.exists(os.path.join(folder, name)) for name in _OFFICIAL_FILES):
        return _read_folder(folder)
    import keras

    try:
        parts = keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # Keras raises nothing narrower
        raise UsageError(
            f"--dataset=fashion_mnist: Keras could not download the set ({error}). Put "
            f"{', '.join(_OFFICIAL_FILES)} into {folder}, or use --dataset=synthetic, "
            "which needs no files"
        ) from None
    train, held_out = (Arrays(images[..., np.newaxis], y) for images, y in parts)
    return train, held_out


def _idx(config: Config) -> Parts:
    """The four official files of MNIST and its successors, in `data_dir`."""
    return _read_folder(config.data_dir)


def _read_folder(folder: str) -> Parts:
    return read_idx_split(folder, "train"), read_idx_split(folder, "t10k")


SOURCES: dict[str, Callable[[Config], Parts]] = {
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
    train, held_out = SOURCES[config.dataset](config)
    splits = Splits(
        _first(train, config.train_examples, "train_examples", config),
        _first(held_out, config.eval_examples, "eval_examples", config),
    )
    if splits.train.image_shape != splits.eval.image_shape:
        raise UsageError(
            f"training images are {splits.train.image_shape} and evaluation images "
            f"{splits.eval.image_shape} (height, width, channels) in "
            f"--data_dir={config.data_dir}: they must be alike"
        )
    return splits


def _first(part: Arrays, examples: int, flag: str, config: Config) -> ArraySource:
    """The first `examples` images of a part, or all if it is 0."""
    images, labels = part
    if examples > len(images):
        raise UsageError(
            f"--{flag}={examples} is more than the {len(images)} images that "
            f"--dataset={config.dataset} has"
        )
    count = examples or len(images)
    return ArraySource(images[:count], None if labels is None else labels[:count])


def read_idx_split(folder: str, prefix: str) -> Arrays:
    """Reads one part of a set in the four official files, gzipped or not.

    Args:
      folder: where `{train,t10k}-images-idx3-ubyte[.gz]` are, and the labels if any.
      prefix: with which the files' names begin, `train` or `t10k`.

    Returns:
      Images uint8 [n, H, W, 1], labels uint8 [n] or None.

    Raises:
      UsageError: no such folder or file, or a file that `read_idx` refuses, or not a
        label for each image.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"--data_dir={folder} is not a folder")
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
