"""A folder of pictures as an image source: squares cut out of them as they are needed.

Pictures stay on disk, in memory are their names. Each time one is asked for it is
decoded, and a square is cut out of it. Where, two numbers say that come with the
question, so it is the same whoever asks, and however often.
"""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from aelab.config import Config
from aelab.data.image_files import (
    failure_reason,
    is_permanent,
    opened,
    picture_names,
    printable,
    quiet_pillow,
    read_square,
)
from aelab.errors import ImageError, UsageError
from aelab.system.console import warn

_MIDDLE = 1 << 31
_SCAN_THREADS = 16  # a disk in the network takes its time for each file
_SCAN_BLOCK = 64  # files that a thread reads before it reports
_TOLD_FILES = 5  # bad files that one message names


class ImageFolder:
    """A source of squares out of pictures in files.

    A picture that can't be decoded when it is asked for, or is gone, counts as one of
    `max_bad_files`, and the source's next one takes its place: the same one each time,
    as long as the files stay as they are. What may be otherwise the next time, as a
    lack of memory or a failing disk, is an error: no other picture stands in for it.

    Attributes:
      image_shape: (`image_size`, `image_size`, `image_channels`).
    """

    def __init__(
        self, folder: str, files: list[tuple[str, int]], config: Config, bad: "BadFiles"
    ):
        """Takes checked `files`: path within `folder`, and size in bytes."""
        self._folder, self._files = folder, files
        self._config, self._bad = config, bad
        size = config.image_size
        self.image_shape: tuple[int, int, int] = (size, size, config.image_channels)

    @property
    def fingerprint(self) -> str:
        """A short text that is equal for equal names and sizes in bytes, in order.

        It tells when pictures were added, removed, renamed or saved anew in another
        number of bytes. It does not tell when pixels changed and the number of bytes
        did not, as no file is read for it.
        """
        digest = hashlib.sha256()
        for name, size in self._files:
            digest.update(os.fsencode(name) + f"\0{size}\0".encode())
        return f"{len(self)} pictures, names and sizes {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self._files)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The middle squares of the pictures at `indices` (int64 [n]), see `crops`."""
        return self.crops(indices, np.full([len(indices), 2], _MIDDLE, np.uint32))

    def crops(self, indices: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Squares out of the pictures at `indices`.

        Threads may call it at the same time: Pillow decodes without Python's lock.

        Args:
          indices: int64 [n].
          places: uint32 [n, 2], how far down and to the right, see `read_square`.

        Returns:
          uint8 [n, image_size, image_size, image_channels].

        Raises:
          ImageError: more pictures than `max_bad_files` can't be used, or one can't be
            read for a reason that is not the file's.
        """
        found = np.empty([len(indices), *self.image_shape], np.uint8)
        for row, (index, place) in enumerate(zip(indices, places, strict=True)):
            found[row] = self._crop(int(index), int(place[0]), int(place[1]))
        return found

    def _crop(self, index: int, down: int, right: int) -> np.ndarray:
        """One square, of the first picture from `index` on that can be decoded."""
        size, _, channels = self.image_shape
        for number in range(index, index + len(self)):
            name, _ = self._files[number % len(self)]
            path = os.path.join(self._folder, name)
            try:
                return read_square(path, size, channels, down, right)
            except Exception as error:  # Pillow raises nothing narrower
                if not is_permanent(error):
                    told = f"{printable(path)} can't be read: {failure_reason(error)}"
                    raise ImageError(told) from None
                self._bad.add(path, failure_reason(error))
        raise ImageError(f"no picture in {self._folder} can be read any more")

    def take(self, count: int) -> "ImageFolder":
        """A source of the first `count` pictures, at least 1 and no more than all."""
        return ImageFolder(self._folder, self._files[:count], self._config, self._bad)


class BadFiles:
    """Files that turn out to be bad when they are decoded, and how many may be."""

    def __init__(self, limit: int, left_out: int):
        """Of the `limit` that are allowed so many were left out at the start."""
        self._limit, self._left_out = limit, left_out
        self._paths: set[str] = set()
        self._lock = threading.Lock()

    def add(self, path: str, reason: str) -> None:
        """Notes a bad file, and warns of it the first time.

        Raises:
          ImageError: it is one too many.
        """
        told = f"{printable(path)} can't be used: {reason}"
        with self._lock:
            is_known = path in self._paths
            self._paths.add(path)
            if self._left_out + len(self._paths) > self._limit:
                raise ImageError(
                    f"{told}; --max_bad_files={self._limit} allows no more, with a "
                    "higher one the next picture takes its place"
                ) from None
        if not is_known:
            warn(f"{told}; the next picture takes its place")


def open_image_folder(config: Config, split: str) -> ImageFolder:
    """The pictures of `config.data_dir` that are to train on, or to evaluate on.

    Reads the header of each, in several threads, with a progress bar on a terminal.

    Args:
      config: folder, `image_size`, `image_channels` and `max_bad_files`.
      split: `train` or `eval`.

    Raises:
      UsageError: the folder or one in it can't be read, it holds fewer than two
        pictures, or of the split's more than `max_bad_files`, or all, are bad: no
        pictures, or smaller than `image_size`.
      OSError: the disk fails, or there are too many open files.
    """
    folder, limit = config.data_dir, config.max_bad_files
    names = picture_names(folder, split)
    files, bad = _scan(folder, names, config.image_size, f"Pictures, {split}")
    told = [f"{printable(name)}: {reason}" for name, reason in bad.items()]
    if len(bad) > limit or not files:
        more = f"more than --max_bad_files={limit} allows"
        rest = len(told) - _TOLD_FILES
        told = told[:_TOLD_FILES] + [f"and {rest} more"] * (rest > 0)
        raise UsageError(
            f"--data_dir={folder}: {len(bad)} of the {len(names)} pictures for {split} "
            f"can't be used, {more if len(bad) > limit else 'so none is left'}:"
            + "".join(f"\n  {line}" for line in told)
        )
    for line in told:
        warn(f"left out of --data_dir={folder}: {line}")
    return ImageFolder(folder, files, config, BadFiles(limit, len(bad)))


def _scan(
    folder: str, names: list[str], image_size: int, title: str
) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """Name and size in bytes of the pictures that can be used, and why others can't."""

    def check(block: list[str]) -> list[int | str]:
        return [_bytes_or_reason(os.path.join(folder, n), image_size) for n in block]

    files: list[tuple[str, int]] = []
    bad: dict[str, str] = {}
    blocks = [names[i : i + _SCAN_BLOCK] for i in range(0, len(names), _SCAN_BLOCK)]
    with (
        quiet_pillow(),
        ThreadPoolExecutor(_SCAN_THREADS) as threads,
        tqdm(total=len(names), desc=title, disable=None, delay=1, leave=False) as bar,
    ):
        for block, results in zip(blocks, threads.map(check, blocks), strict=True):
            for name, found in zip(block, results, strict=True):
                if isinstance(found, int):
                    files.append((name, found))
                else:
                    bad[name] = found
            bar.update(len(block))
    return files, bad


def _bytes_or_reason(path: str, image_size: int) -> int | str:
    """A picture's size in bytes, or why it can't be used, as far as its header says."""
    try:
        with opened(path, image_size):
            return os.path.getsize(path)
    except Exception as error:  # Pillow raises nothing narrower
        if not is_permanent(error):
            raise
        return failure_reason(error)
