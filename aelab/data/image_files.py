"""Picture files: those of a folder, and squares of one size and kind out of them.

Pillow reads them. Of an animation the first frame counts. EXIF orientation is applied.
What is transparent lies on white; but a transparent colour of a PNG file of 16 bits a
channel of RGB does not, as Pillow keeps the upper bits alone. Of 16 bits the upper 8
are taken. Palettes and CMYK become RGB, and colour becomes gray (the luma of ITU-R
BT.601), by Pillow's formulas, without colour profiles.
"""

import contextlib
import errno
import hashlib
import os
import stat
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from aelab.errors import UsageError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_MODES = {1: "L", 3: "RGB"}  # Pillow's, by the number of channels
_EVAL_SHARE = 0.1
_FILE_ERRORS = (
    *(None, errno.ENOENT, errno.EACCES, errno.EPERM),
    *(errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG),
)


def picture_names(folder: str, split: str) -> list[str]:
    """The pictures of one part of a folder with its sub-folders, by their names.

    Whether a picture is to evaluate on follows from its path within the folder alone:
    it is if a hash of it is in the lowest tenth of all hashes that there could be. So
    it is the same in every run, wherever the folder is, and when other pictures come or
    go. If no picture were to evaluate on, or none to train on, the one whose hash is
    nearest changes sides. Names that begin with a dot are passed by, and endings other
    than `SUFFIXES`.

    Args:
      folder: the folder.
      split: `train` or `eval`.

    Returns:
      Paths relative to `folder`, with slashes, in the order of their hashes, so that
      the first ones are a fair sample of all.

    Raises:
      UsageError: a folder can't be read, or holds fewer than two pictures.
    """
    hashes = {name: _hash(name) for name in _walk(folder)}
    if len(hashes) < 2:
        raise UsageError(
            f"--data_dir={folder} must hold at least two pictures, one to train on and "
            f"one to evaluate on, with names in {', '.join(SUFFIXES)}; it holds "
            f"{len(hashes)}"
        )
    names = sorted(hashes, key=lambda name: hashes[name])
    lowest = sum(value < _EVAL_SHARE for value in hashes.values())
    count = min(max(lowest, 1), len(names) - 1)
    return names[:count] if split == "eval" else names[count:]


def _hash(name: str) -> float:
    """A number in [0, 1) that follows from `name`."""
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _walk(folder: str) -> Iterator[str]:
    """The paths within `folder` of all files that are named as pictures."""

    def fail(error: OSError) -> None:
        raise UsageError(f"--data_dir={folder} can't be read: {error}") from None

    if not os.path.isdir(folder):
        raise UsageError(f"--data_dir={folder} is not a folder")
    seen = set()
    for path, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:  # links may lead in a circle
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                within = os.path.relpath(os.path.join(path, name), folder)
                yield within.replace(os.sep, "/")


def read_square(
    path: str, size: int, channels: int, down: int, right: int
) -> np.ndarray:
    """A square cut out of a picture at its own resolution.

    Args:
      path: the file.
      size: of the square's sides, in pixels.
      channels: 1 for gray, 3 for RGB.
      down: where, in [0, 2**32). Of the n places that there are from the top it is
        number floor(down * n / 2**32), so 2**31 is the middle one, and random numbers
        give all of them alike. Top and left are those in the file, before it is turned.
      right: the same, from the left.

    Returns:
      uint8 [size, size, channels].

    Raises:
      Exception: it can't be read, or is smaller; `failure_reason` says it in words.
    """
    with opened(path, size) as picture:
        top = down * (picture.height - size + 1) >> 32
        left = right * (picture.width - size + 1) >> 32
        square = picture.crop((left, top, left + size, top + size))
    return _pixels(ImageOps.exif_transpose(square), channels)


@contextlib.contextmanager
def opened(path: str, size: int) -> Iterator[Image.Image]:
    """A picture of which no more than the header has been read.

    Args:
      path: the file; what it is, its content says, not its name.
      size: how many pixels it must have in each direction.

    Raises:
      Exception: it can't be read, or is smaller; `failure_reason` says it in words.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if not status.st_size:
        raise ValueError("it is empty")
    with Image.open(path, formats=_FORMATS) as picture:
        if min(picture.size) < size:
            width, height = picture.size
            raise ValueError(
                f"it has {width} x {height} pixels, less than --image_size={size}"
            )
        yield picture


def is_permanent(error: Exception) -> bool:
    """Whether an exception of this module will come each time that file is read.

    It will not if the machine lacks memory or open files, or a disk fails.
    """
    if isinstance(error, OSError):  # Pillow's own have no number
        return error.errno in _FILE_ERRORS
    return not isinstance(error, MemoryError)


def failure_reason(error: Exception) -> str:
    """What an exception of this module says of a file, in a line."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is no picture in the format {', '.join(_FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(str(error)) or type(error).__name__


def printable(text: str) -> str:
    """`text` in a line that can be printed, which not all names of files are."""
    return text if text.isprintable() else repr(text)[1:-1]


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Holds back Pillow's warnings of what it can read in spite of a fault.

    Pictures that are so large (90 million pixels) that Pillow takes them for an attack
    are errors. For the main thread, as Python's filters are those of all threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _pixels(picture: Image.Image, channels: int) -> np.ndarray:
    """Any picture as uint8 [height, width, channels]."""
    if picture.mode.startswith("I"):
        deep, hidden = np.asarray(picture), picture.info.get("transparency")
        shallow = np.where(deep == hidden, 255, deep >> 8)
        picture = Image.fromarray(shallow.astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    pixels = np.asarray(picture.convert(_MODES[channels]))
    return pixels.reshape(picture.height, picture.width, channels)
