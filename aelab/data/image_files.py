"""Opens picture files: PNG, JPEG, WebP, BMP, GIF and TIFF."""

import contextlib
import os
import stat
import warnings
from collections.abc import Iterator
from errno import EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags, UnidentifiedImageError

from aelab.data import tolerant_pillow  # noqa: F401
from aelab.data.frames import tiff_pages
from aelab.system.console import printable

MAX_PIXELS = 250_000_000

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_BITS, _PHOTOMETRIC, _BLACK_IS_ZERO = 258, 262, 1  # tags of TIFF, and a value
# Pillow reads only the upper bytes of 16-bit color. By its raw mode, PNG's or TIFF's (N
# is the machine's byte order): the mode that gives the lower bytes, and their bands.
_LOW_BYTES = {
    "LA;16B": ("RGBA", [1, 1, 1, 3]),
    "RGB;16B": ("RGB;16L", [0, 1, 2]),
    "RGB;16L": ("RGB;16B", [0, 1, 2]),
    "RGB;16N": ("RGB;16B", [0, 1, 2]),
    "RGBA;16B": ("RGBA;16L", [0, 1, 2, 3]),
    "RGBA;16L": ("RGBA;16B", [0, 1, 2, 3]),
    "RGBA;16N": ("RGBA;16B", [0, 1, 2, 3]),
}
_GRAY = ("1", "L", "LA", "La", "F")  # Pillow's modes, with those that begin with I
_TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# None: Pillow's own errors have no number.
_FILE_ERRORS = (None, EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM)


def brightness(path: str) -> float:
    """The largest value of a 16-bit picture, as a share of 65535.

    Pillow reads only the upper bytes of color; the lower ones are taken to be 255.
    """
    with opened(path) as picture:
        if picture.mode.startswith("I"):
            return float(np.asarray(picture).max()) / 65535
        return (256 * float(np.asarray(picture.convert("RGB")).max()) + 255) / 65535


def num_channels(picture: Image.Image) -> int:
    """1 for gray pictures, 3 for color; alpha does not count."""
    return 1 if picture.mode in _GRAY or picture.mode.startswith("I") else 3


def orientation_of(picture: Image.Image) -> int:
    """A picture's EXIF orientation, 1 if it has none or the EXIF block is damaged."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # rubbish makes Pillow raise anything
        if not is_permanent(error):
            raise
        return 1


def upright(picture: Image.Image) -> Image.Image:
    """A picture, turned by its EXIF orientation."""
    turn = _TURNS.get(orientation_of(picture))
    return picture if turn is None else picture.transpose(turn)


@contextlib.contextmanager
def opened(path: str, size: int = 1) -> Iterator[Image.Image]:
    """Opens a picture of any name and reads only its header.

    Raises:
      Exception: it can't be read, has less than `size` pixels in a direction or more
        than `MAX_PIXELS`, or is a TIFF file that Pillow can't read completely; see
        `failure_reason`.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    if not status.st_size:
        raise ValueError("it is empty")
    with Image.open(path, formats=_FORMATS) as picture:
        if min(picture.size) < size:
            sides = " x ".join(map(str, picture.size))
            raise ValueError(f"it has {sides} pixels, less than --image_size={size}")
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ValueError(
                f"it declares {width:,} x {height:,} pixels; {MAX_PIXELS:,} are allowed"
            )
        if isinstance(picture, TiffImagePlugin.TiffImageFile):
            _check_tiff(picture)
            _drop_damaged_exif(picture)
        yield picture


def _check_tiff(picture: TiffImagePlugin.TiffImageFile) -> None:
    """Raises ValueError if a file has several pages or bits that Pillow would lose."""
    if (pages := tiff_pages(picture)) > 1:
        raise ValueError(f"it holds {pages} pages, and only one is allowed")
    bits = set(picture.tag_v2.get(_BITS, (1,)))
    is_gray16 = picture.mode.startswith("I;16") and bits == {16}
    black_is_zero = picture.tag_v2.get(_PHOTOMETRIC) == _BLACK_IS_ZERO
    is_color16 = bits == {16} and low_tiles(picture) is not None
    if max(bits) > 8 and not ((is_gray16 and black_is_zero) or is_color16):
        raise ValueError(
            f"it has {max(bits)} bits per channel; a TIFF file may have 8, or 16 "
            "without a sign if it is gray with black as 0, or RGB with its channels "
            "stored together"
        )


class LowTiles(NamedTuple):
    """How to read the lower bytes of 16-bit color.

    Attributes:
      tiles: to be assigned to `tile` of the same file, opened again.
      bands: of the loaded picture, those that are the lower bytes of its channels.
    """

    tiles: list[Any]
    bands: list[int]


def low_tiles(picture: Image.Image) -> LowTiles | None:
    """How to read the lower bytes of an opened picture; None if it has none."""
    tiles: list[Any] = []
    bands: list[int] = []
    for tile in getattr(picture, "tile", ()):
        mode, *rest = tile.args if isinstance(tile.args, tuple) else [tile.args]
        if mode not in _LOW_BYTES:
            return None
        mode, bands = _LOW_BYTES[mode]
        tiles.append(tile._replace(args=(mode, *rest) if rest else mode))
    return LowTiles(tiles, bands) if tiles else None


def check_gray(picture: Image.Image) -> None:
    """Raises ValueError for 16-bit color, which 0.1.0 did not read from TIFF."""
    if not picture.mode.startswith("I"):
        raise ValueError("it is a TIFF file with 16 bits of color; use --image_bits=16")


def has_16_bits(picture: Image.Image) -> bool:
    """True if a file that `opened` gives has 16 bits per channel."""
    return picture.mode.startswith("I") or low_tiles(picture) is not None


def _drop_damaged_exif(picture: TiffImagePlugin.TiffImageFile) -> None:
    """Drops the blocks of metadata on which Pillow would fail before the pixels."""
    exif = picture.getexif()
    for block in TiffTags.TAGS_V2_GROUPS:
        try:
            exif.get_ifd(block)
        except Exception as error:  # rubbish makes Pillow raise anything
            if not is_permanent(error):
                raise
            exif.pop(block, None)


def is_permanent(error: Exception) -> bool:
    """True for a bad file, False for lack of memory or open files or a failing disk."""
    if isinstance(error, OSError):
        return error.errno in _FILE_ERRORS
    return not isinstance(error, MemoryError)


def failure_reason(error: Exception) -> str:
    """The reason that an exception of this module gives, in one line."""
    if isinstance(error, UnidentifiedImageError):
        formats = ", ".join(_FORMATS)
        return f"it is not a picture in the format {formats}, or its header is damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(str(error)) or type(error).__name__


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Suppresses Pillow's warnings about defects that it can work around.

    Call it in the main thread: all threads share Python's filters.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
