"""The pictures of a folder as an image source."""

import copy
import hashlib
import os
import threading
from collections.abc import Callable

import numpy as np

from aelab.config import Config
from aelab.data.copies import copies
from aelab.data.decode import Stored, read_square, read_stored
from aelab.data.find_pictures import last_names
from aelab.data.image_files import failure_reason, is_permanent
from aelab.data.memory_cache import MemoryCache
from aelab.errors import ImageError, UsageError
from aelab.system.console import printable, warn

_MIDDLE = 1 << 31


class ImageFolder:
    """A source of square crops of picture files, and of the whole pictures.

    Decoded pictures stay in memory up to `cache_mb`; others are decoded each time. A
    picture that is gone or can't be decoded when it is requested counts towards
    `max_bad_files`. The source's next picture replaces it, the same one each time if
    the files do not change. Transient failures (lack of memory, a failing disk) are
    errors.
    """

    def __init__(
        self,
        files: list[tuple[str, int]],
        config: Config,
        left_out: int = 0,
        deep: bool = False,
    ):
        """Takes checked `files`, path and bytes, without `left_out` bad ones.

        With `deep` images are uint16, else uint8.
        """
        self._folder, self._files = config.data_dir, files
        self._limit, self._left_out = config.max_bad_files, left_out
        self._bad: set[str] = set()
        self._lock = threading.Lock()
        self._split_by = config.split_by
        self._white, size = config.white_level, config.image_size
        self._cache: MemoryCache[str, Stored] = MemoryCache(config.cache_mb)
        self._deep = deep
        self.dtype = np.dtype(np.uint16 if deep else np.uint8)
        self.image_shape: tuple[int, int, int] = (size, size, config.image_channels)

    @property
    def fingerprint(self) -> str:
        """Depends on the pictures' names and sizes in bytes, in order.

        No file is read for it, so pixels can change while it stays the same.
        """
        digest = hashlib.sha256()
        for name, size in self._files:
            digest.update(os.fsencode(name) + f"\0{size}\0".encode())
        return f"{len(self)} pictures, names and sizes {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self._files)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The center crops of the pictures at `indices` (int64 [n]), see `crops`."""
        return self.crops(indices, np.full([len(indices), 2], _MIDDLE, np.uint32))

    def crops(self, indices: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The crops at `places`, `down` and `right` of `read_square`, see `Source`.

        Threads may call it at the same time: Pillow decodes without Python's lock.

        Raises:
          ImageError: more than `max_bad_files` pictures can't be used, or reading one
            failed for a reason other than the file itself.
        """
        rows = zip(indices.tolist(), places.tolist(), strict=True)
        return np.stack([self._crop(index, *place) for index, place in rows])

    def picture(self, index: int) -> np.ndarray:
        """A whole picture, [H, W, C] in the type of the crops.

        Raises:
          ImageError: as in `crops`.
        """

        def whole(path: str) -> np.ndarray:
            """The picture in a file."""
            return (self._kept(path) or self._stored(path)).upright()

        return self._first_good(index, whole)

    def _stored(self, path: str) -> Stored:
        size, _, channels = self.image_shape
        return read_stored(path, size, channels, self._white, self._deep)

    def _kept(self, path: str) -> Stored | None:
        """A picture from the cache; None if there is no room for it."""
        return self._cache.get(path, lambda: self._stored(path))

    def _crop(self, index: int, down: int, right: int) -> np.ndarray:
        """One crop, of the first picture from `index` on that can be decoded."""
        size, _, channels = self.image_shape

        def crop(path: str) -> np.ndarray:
            """The crop of the picture in a file."""
            if kept := self._kept(path):
                return kept.square(size, down, right)
            options = self._white, self._deep
            return read_square(path, size, channels, down, right, *options)

        return self._first_good(index, crop)

    def _first_good(self, index: int, read: Callable[[str], np.ndarray]) -> np.ndarray:
        """What `read` gives for the first picture from `index` on that it can read."""
        for number in range(index, index + len(self)):
            name, _ = self._files[number % len(self)]
            path = os.path.join(self._folder, name)
            try:
                return read(path)
            except Exception as error:  # Pillow raises nothing narrower
                shown, reason = printable(path), failure_reason(error)
                if not is_permanent(error):
                    raise ImageError(f"{shown} can't be read: {reason}") from None
                self._count_bad(path, f"{shown} can't be used: {reason}")
        raise ImageError(
            f"no picture in {printable(self._folder)} can be read any more"
        )

    def take(self, count: int) -> "ImageFolder":
        """A source of the first `count` pictures."""
        return self._part(self._files[:count])

    def divide(self, held_out: int) -> "tuple[ImageFolder, ImageFolder]":
        """All without the last `held_out` pictures, and these; see `Source.divide`.

        If sub-folders stay whole, the second part is the last of them, in the order of
        their hashes, that have as many pictures together.

        Raises:
          UsageError: so many sub-folders would leave none for training.
        """
        names = last_names([name for name, _ in self._files], held_out, self._split_by)
        if len(names) == len(self._files):
            raise UsageError(
                f"--validation_examples={held_out} leaves no sub-folder to train on in "
                f"--data_dir={self._folder}: give a lower number, or --split_by=file"
            )
        parts = ([f for f in self._files if (f[0] in names) == last] for last in (0, 1))
        train, validation = map(self._part, parts)
        return train, validation

    def _part(self, files: list[tuple[str, int]]) -> "ImageFolder":
        """A source of some files, which counts bad files with this."""
        source = copy.copy(self)
        source._files = files
        return source

    def share_memory(self, other: "ImageFolder") -> None:
        """Shares one limit of memory, `cache_mb`, with another part of the data set."""
        self._cache = other._cache

    def warn_of_copies(self, held_out: "ImageFolder") -> None:
        """Warns if pictures of `held_out` are byte-identical to some of these."""
        if found := copies(self._folder, self._files, held_out._files):
            warn(
                f"--data_dir={self._folder}: {len(found)} of the {len(held_out)} "
                "pictures for evaluation are byte-identical to pictures for training, "
                f"for example {found[0]}: remove the copies, or keep each sub-folder "
                "in one part with --split_by=folder"
            )

    def _count_bad(self, path: str, message: str) -> None:
        """Warns the first time; raises ImageError if there are too many."""
        with self._lock:
            is_known = path in self._bad
            self._bad.add(path)
            if self._left_out + len(self._bad) > self._limit:
                raise ImageError(
                    f"{message}; --max_bad_files={self._limit} allows no more; with a "
                    "higher limit the next picture replaces it"
                ) from None
        if not is_known:
            warn(f"{message}; the next picture replaces it")
