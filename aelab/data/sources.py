"""Image sources: random access to the images of a data set."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from aelab.config import Config
from aelab.config.registry import SOURCES, load
from aelab.data import synthetic
from aelab.errors import UsageError


class Source(Protocol):
    """Deterministic random access to images by index.

    A source may also have `crops(indices, places)`, which cuts what `read` returns out
    of larger images. It is the same for the same `places`, random uint32 [n, 2]. With
    `warn_of_copies(held_out)` a source for training warns if it has images of another,
    and with `share_memory(other)` it takes part in the other's limit of memory.
    """

    image_shape: tuple[int, int, int]  # (height, width, channels) of every image
    dtype: np.dtype  # of the values, uint8 or uint16

    @property
    def fingerprint(self) -> str:
        """A short text that is equal for equal images in equal order."""

    def __len__(self) -> int:
        """Number of images, at least 1."""

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices` (int64 [n]): [n, height, width, channels]."""

    def take(self, count: int) -> "Source":
        """A source of the first `count` images, at least 1 and no more than all."""

    def divide(self, held_out: int) -> "tuple[Source, Source]":
        """The images without the last `held_out`, and these; both at least 1.

        The second part may have more images, so that what belongs together stays so.
        """


@runtime_checkable
class PictureSource(Source, Protocol):
    """A source whose images are parts of pictures of different sizes."""

    def picture(self, index: int) -> np.ndarray:
        """The picture at `index`: [H, W, channels]."""


class ArraySource:
    """A source whose images are in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray | None = None):
        """Takes `images`, uint8 [n, H, W, C], and `labels`, uint8 [n], if known."""
        self._images, self.dtype = images, images.dtype
        self._tensor: Any = None
        self.labels = labels
        self.image_shape: tuple[int, int, int] = images.shape[1:]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Depends on the shape and the values of the images."""
        digest = hashlib.sha256(repr(self._images.shape).encode())
        digest.update(np.ascontiguousarray(self._images).data)
        return f"{len(self)} images, sha256 {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self._images)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`, see `Source.read`."""
        images: np.ndarray = self._images[indices]
        return images

    def tensor(self) -> Any:
        """All images as a tensor in the CPU's memory, uint8 [n, H, W, C].

        From the first call on it is the only copy, and the array is a view of it.
        """
        if self._tensor is None:
            import tensorflow as tf

            with tf.init_scope(), tf.device("CPU:0"):
                self._tensor = tf.constant(self._images)
                self._images = np.asarray(memoryview(self._tensor))
        return self._tensor

    def take(self, count: int) -> "ArraySource":
        """A source of the first `count` images."""
        return self._slice(slice(count))

    def divide(self, held_out: int) -> "tuple[ArraySource, ArraySource]":
        """The images without the last `held_out`, and these; see `Source.divide`."""
        return self._slice(slice(-held_out)), self._slice(slice(-held_out, None))

    def _slice(self, part: slice) -> "ArraySource":
        labels = None if self.labels is None else self.labels[part]
        return ArraySource(self._images[part], labels)


class Splits(NamedTuple):
    """What a run uses: images to train on, and images to evaluate on.

    `eval` is the validation part if the run has one, and else the test part.
    """

    train: Source
    eval: Source

    def describe(self) -> dict[str, Any]:
        """A fingerprint of the data set, stored with the run."""
        parts = {name: part.fingerprint for name, part in self._asdict().items()}
        return parts | {"image_shape": list(self.train.image_shape)}


# The embedded sets: default size and seed. They are as fixed as a download would be;
# `--seed` distinguishes runs on the same set.
_SYNTHETIC = {"train": (60_000, 1), "test": (10_000, 2)}


def open_synthetic(config: Config, split: str) -> Source:
    """The embedded set, with as many images as requested."""
    count, seed = _SYNTHETIC[split]
    if split == "train" and config.train_examples:
        count = config.train_examples + config.validation_examples
    elif split == "test":
        count = _limit(config, "test")[1] or count
    return ArraySource(*synthetic.draw_images(count, seed))


def load_part(config: Config, name: str) -> Source:
    """The part `train`, `validation` or `test` of the data set of `config`.

    `train` is without `validation`, and `test` is held out from the start.

    Raises:
      UsageError: files are missing or bad, the set has fewer images than requested, or
        there is no such part.
    """
    return _load_parts(config, [name])[0]


def _load_parts(config: Config, names: Sequence[str]) -> list[Source]:
    """The parts with some names, see `load_part`; no file is read twice."""
    entry = SOURCES[config.dataset]
    open_part = load(entry.function, f"--dataset={config.dataset}")
    parts: dict[str, Source] = {}
    if "test" in names:
        parts["test"] = open_part(config, "test")
    if {*names} & {"train", "validation"}:
        parts["train"] = open_part(config, "train")
        if "test" in parts and hasattr(parts["train"], "share_memory"):
            parts["train"].share_memory(parts["test"])
        if config.validation_examples:
            parts["train"], parts["validation"] = _divide(config, parts["train"])
    missing = [name for name in names if name not in parts]
    if missing:
        raise UsageError(f"there is no {missing[0]} part: --validation_examples=0")
    return [_limited(config, name, parts[name]) for name in names]


def _limit(config: Config, part: str) -> tuple[str, int]:
    """The field that limits the images of a part, and its value; 0 = all."""
    names = {"train": "train_examples", config.eval_part: "eval_examples"}
    name = names.get(part, "")
    return name, getattr(config, name) if name else 0


def _limited(config: Config, part: str, source: Source) -> Source:
    """The first images of a part, as many as requested."""
    name, count = _limit(config, part)
    if count > len(source):
        raise UsageError(
            f"--{name}={count} is more than the {len(source)} images of the {part} "
            f"part of --dataset={config.dataset}"
        )
    return source.take(count) if count else source


def _divide(config: Config, source: Source) -> tuple[Source, Source]:
    """The images to train on, and those that validate."""
    count = config.validation_examples
    if count >= len(source):
        raise UsageError(
            f"--validation_examples={count} leaves nothing to train on: "
            f"--dataset={config.dataset} has {len(source)} training images"
        )
    return source.divide(count)


def with_data_dir(config: Config, data_dir: str) -> Config:
    """`config` with another `data_dir`, or unchanged if `data_dir` is empty.

    Raises:
      UsageError: the data set does not read a folder.
    """
    if not data_dir:
        return config
    if not config.data_dir:
        raise UsageError(
            f"--data_dir={data_dir} contradicts the run's "
            f"--dataset={config.dataset}, which does not read a folder"
        )
    return dataclasses.replace(config, data_dir=os.path.abspath(data_dir))


def load_splits(config: Config) -> Splits:
    """The parts of the data set that a run of `config` reads.

    Raises:
      UsageError: `load_part` raises it, or the image sizes differ.
    """
    splits = Splits(*_load_parts(config, ["train", config.eval_part]))
    if splits.train.image_shape != splits.eval.image_shape:
        raise UsageError(
            f"training images are {splits.train.image_shape} and evaluation images "
            f"{splits.eval.image_shape} (height, width, channels) in "
            f"--data_dir={config.data_dir}: they must be equal"
        )
    warn_of_copies(splits.train, splits.eval)
    return splits


def warn_of_copies(train: Source, held_out: Source) -> None:
    """Warns if images to evaluate on are copies of training images, where known."""
    if hasattr(train, "warn_of_copies"):
        train.warn_of_copies(held_out)
