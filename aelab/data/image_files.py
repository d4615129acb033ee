"""Reads picture files: PNG, JPEG, WebP, BMP, GIF and TIFF.

`read_square` is for training, the others for all that reads pictures. `read_square`
uses the first frame of an animation, with EXIF orientation. Transparent pixels are
composited onto white, except a transparent color of a 16-bit RGB PNG file, of which
Pillow keeps only the upper bits. 16-bit values become 8-bit values. Palettes and
CMYK become RGB, and color becomes gray (the luma of ITU-R BT.601), by Pillow's
formulas, without color profiles. Damaged or large metadata is ignored.
"""

import contextlib
import os
import stat
import warnings
from collections.abc import Iterator
from errno import EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags, UnidentifiedImageError

from aelab.data import tolerant_pillow  # noqa: F401
from aelab.data.frames import tiff_pages
from aelab.system.console import printable

MAX_PIXELS = 250_000_000

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_BITS, _PHOTOMETRIC, _BLACK_IS_ZERO = 258, 262, 1  # tags of TIFF, and a value
# Pillow's raw modes of 16-bit color in PNG files, and those that give the lower bytes.
# Those of gray with alpha are the second and the fourth of RGBA.
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": "RGBA"}
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


def read_square(
    path: str, size: int, channels: int, down: int, right: int, white_level: int = 0
) -> np.ndarray:
    """Reads a square crop of a picture: uint8 [size, size, channels], gray or RGB.

    It has the picture's resolution. Of n possible positions, counted from the top,
    `down` in [0, 2**32) selects number floor(down * n / 2**32), and `right` likewise,
    counted from the left: 2**31 is the middle, and random numbers give each position
    the same probability. Positions refer to the stored pixels, before EXIF orientation
    is applied (TIFF: after). `white_level` becomes 255 in 16-bit pictures; at 0 they
    lose their lower 8 bits.

    Raises:
      Exception: it can't be read, or is too small; see `failure_reason`.
    """
    with opened(path, size) as picture:
        low_mode = _LOW_BYTES.get(_raw_mode(picture)) if white_level else None
        square = _square(picture, size, down, right)
    if low_mode:  # Pillow has read only the upper bytes
        with opened(path, size) as picture:
            tiles = getattr(picture, "tile", ())
            vars(picture)["tile"] = [tile._replace(args=low_mode) for tile in tiles]
            low = np.asarray(_square(picture, size, down, right))
        low = low[..., [1, 1, 1, 3]] if low_mode == "RGBA" else low
        pixels = np.array(square)
        deep = pixels[..., :3] * np.int64(256) + low[..., :3]
        pixels[..., :3] = _shallow(deep, white_level)
        square = Image.fromarray(pixels)
    return _pixels(square, channels, white_level)


def _square(picture: Image.Image, size: int, down: int, right: int) -> Image.Image:
    """The crop that `read_square` describes, in the mode that Pillow reads."""
    picture.load()  # which turns a TIFF picture upright
    top = down * (picture.height - size + 1) >> 32
    left = right * (picture.width - size + 1) >> 32
    return upright(picture.crop((left, top, left + size, top + size)))


def brightness(path: str) -> float:
    """The largest value of a 16-bit picture, as a share of 65535.

    Pillow reads only the upper bytes of color; the lower ones are taken to be 255.
    """
    with opened(path) as picture:
        if picture.mode.startswith("I"):
            return float(np.asarray(picture).max()) / 65535
        return (256 * float(np.asarray(picture.convert("RGB")).max()) + 255) / 65535


def upright(picture: Image.Image) -> Image.Image:
    """A picture, turned by its EXIF orientation, unless the EXIF block is damaged."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # rubbish makes Pillow raise anything
        if not is_permanent(error):
            raise
        return picture
    turn = _TURNS.get(orientation)
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
    if max(bits) > 8 and not (is_gray16 and black_is_zero):
        raise ValueError(
            f"it has {max(bits)} bits per channel; a TIFF file may have 8, or 16 if it "
            "is gray with black as 0; a PNG file may have 16 bits of any color"
        )


def has_16_bits(picture: Image.Image) -> bool:
    """True if a file that `opened` gives has 16 bits per channel."""
    return picture.mode.startswith("I") or _raw_mode(picture) in _LOW_BYTES


def _raw_mode(picture: Image.Image) -> str:
    """How the pixels of an opened PNG file are stored; else something different."""
    return "".join(str(tile.args) for tile in getattr(picture, "tile", ()))


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


def _pixels(picture: Image.Image, channels: int, white_level: int) -> np.ndarray:
    """Converts any picture to uint8 [height, width, channels]."""
    if picture.mode.startswith("I"):
        deep, hidden = np.asarray(picture), picture.info.get("transparency")
        shallow = np.where(deep == hidden, 255, _shallow(deep, white_level))
        picture = Image.fromarray(shallow.astype(np.uint8))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(picture.height, picture.width, channels)


def _shallow(deep: np.ndarray, white_level: int) -> np.ndarray:
    """16-bit values as 8-bit values; see `read_square`."""
    if not white_level:
        return deep >> 8
    capped: np.ndarray = np.minimum(deep, white_level).astype(np.int64)
    return (510 * capped + white_level) // (2 * white_level)
