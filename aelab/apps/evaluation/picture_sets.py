"""Sets of whole pictures to evaluate a denoiser on."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.data.decode import read_stored
from aelab.data.find_pictures import find_pictures
from aelab.data.frames import check_single
from aelab.data.gaussian import gaussian
from aelab.data.image_files import (
    failure_reason,
    is_permanent,
    num_channels,
    opened,
    quiet_pillow,
)
from aelab.data.pipeline import picture_key
from aelab.data.pixels import unit_tensor
from aelab.errors import UsageError
from aelab.system.console import printable, warn


class Pair(NamedTuple):
    """A picture with noise and without: float32 [H, W, C]; `clean` is in [0, 1]."""

    name: str
    noisy: np.ndarray
    clean: np.ndarray


class Reader(NamedTuple):
    """Reads the pictures that a model takes.

    Attributes:
      channels: 1 for gray, 3 for color.
      white_level: the value that counts as 1 in 16-bit pictures; 0 = 65535.
    """

    channels: int
    white_level: int = 0

    def check(self, path: str) -> tuple[int, int]:
        """Decodes a picture, before anything is computed; returns height and width.

        Raises:
          UsageError: it can't be read, has other channels, an alpha channel, or
            several frames.
        """
        kinds = {1: "gray", 3: "color"}
        with _naming(path), opened(path) as picture:
            check_single(picture)
            found = num_channels(picture)
            if picture.has_transparency_data:
                raise ValueError("it has an alpha channel or a transparent color")
            if found != self.channels:
                raise ValueError(
                    f"it is {kinds[found]}, and the run's model takes "
                    f"{kinds[self.channels]} pictures"
                )
            height, width, _ = self._decoded(path).shape
        return height, width

    def read(self, path: str) -> tf.Tensor:
        """A whole picture, upright: float32 [H, W, C] in [0, 1].

        Raises:
          UsageError: it can't be read.
        """
        with _naming(path):
            pixels = np.ascontiguousarray(self._decoded(path))
        return unit_tensor(tf.constant(pixels))

    def _decoded(self, path: str) -> np.ndarray:
        """A whole picture, upright: uint16 [H, W, C]."""
        stored = read_stored(path, 1, self.channels, self.white_level, deep=True)
        return stored.upright()


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Raises UsageError, with the path, for whatever a bad file raises.

    Lack of memory and a failing disk stay errors of their own.
    """
    try:
        with quiet_pillow():
            yield
    except Exception as error:  # damaged data makes decoders raise anything
        if not is_permanent(error):
            raise
        raise UsageError(f"{printable(path)}: {failure_reason(error)}") from None


def noisy_pictures(
    folder: str, names: Sequence[str], reader: Reader, config: Config
) -> Iterator[Pair]:
    """Pictures of a folder with Gaussian noise, of the level of `config`.

    Each picture has a random stream of its own, by its number, and so the same noise at
    all levels, scaled.
    """
    for number, name in enumerate(names):
        with tf.device("CPU:0"):
            clean = reader.read(os.path.join(folder, name))[tf.newaxis]
            key = picture_key(tf.constant(number, tf.int64))
            noisy = gaussian(clean, key, config)
        yield Pair(name, noisy.numpy()[0], clean.numpy()[0])


def picture_pairs(
    folder: str, stems: Sequence[str], reader: Reader, suffixes: tuple[str, str]
) -> Iterator[Pair]:
    """The pairs of files `stem + suffix`, noisy and clean."""
    for stem in stems:
        paths = [os.path.join(folder, stem + suffix) for suffix in suffixes]
        yield Pair(stem, *(reader.read(path).numpy() for path in paths))


def check_pairs(
    folder: str, stems: Sequence[str], reader: Reader, suffixes: tuple[str, str]
) -> None:
    """Looks at all pairs before anything is computed.

    Raises:
      UsageError: `Reader.check` refuses a file, or the sizes in a pair differ.
    """
    for stem in stems:
        paths = [os.path.join(folder, stem + suffix) for suffix in suffixes]
        sizes = [reader.check(path) for path in paths]
        if sizes[0] != sizes[1]:
            texts = [f"{width} x {height} pixels" for height, width in sizes]
            raise UsageError(f"{paths[0]} has {texts[0]}, {paths[1]} {texts[1]}")


def picture_names(folder: str, flag: str) -> list[str]:
    """The pictures below a folder, links included: relative paths in byte order.

    Raises:
      UsageError: it is not a folder, can't be read, or has no pictures.
    """
    given = f"--{flag}={folder}"
    if not os.path.isdir(folder):
        raise UsageError(f"{given} is not a folder")
    try:
        names = find_pictures(folder, given, follow_links=True)
    except OSError as error:
        raise UsageError(f"{given} can't be read: {error}") from None
    if not names:
        raise UsageError(f"{given} has no pictures")
    return sorted(names, key=os.fsencode)


def pair_stems(folder: str, noisy: str, clean: str) -> list[str]:
    """The stems of the pairs in a folder: names without the suffix `noisy`.

    A warning says if a clean picture has no noisy version. `noisy` and `clean` differ.

    Raises:
      UsageError: there are no pairs, or the clean picture of one is missing.
    """
    names = picture_names(folder, "pairs")
    # One of the endings may be the end of the other.
    others = clean if clean.endswith(noisy) else None
    stems = [
        name.removesuffix(noisy)
        for name in names
        if name.endswith(noisy) and not (others and name.endswith(others))
    ]
    if not stems:
        raise UsageError(f"--pairs={folder} has no name that ends in --noisy={noisy}")
    missing = sorted({stem + clean for stem in stems}.difference(names))
    if missing:
        raise UsageError(
            f"--pairs={folder} has no {missing[0]}, the clean picture to "
            f"{missing[0].removesuffix(clean)}{noisy}"
        )
    cleans = {name for name in names if name.endswith(clean)}
    single = sorted(cleans.difference(stem + clean for stem in stems))
    # Where `noisy` ends with `clean`, other pictures look like clean ones.
    if single and not noisy.endswith(clean):
        warn(
            f"--pairs={folder}: {len(single)} without a noisy version left out, for "
            f"example {printable(single[0])}"
        )
    return stems
