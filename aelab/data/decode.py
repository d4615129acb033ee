"""Decodes pictures to gray or RGB pixels of 8 or 16 bits.

The first frame of an animation is used, with EXIF orientation. Transparent pixels are
composited onto white, except a transparent color of a 16-bit RGB PNG file. Palettes and
CMYK become RGB, and color becomes gray (the luma of ITU-R BT.601), without color
profiles. Damaged or large metadata is ignored.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from aelab.data.image_files import LowTiles, low_tiles, opened, orientation_of

WHITE = 65535  # of 16 bits
_FACTOR = 257  # 16-bit value / 8-bit value of the same share of white
_LUMA = (299, 587, 114)  # in thousandths
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by EXIF orientation
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}

# From width and height to the left, upper, right and lower border.
_Box = Callable[[int, int], tuple[int, int, int, int]]


class Stored(NamedTuple):
    """The decoded pixels [H, W, C] of a file, before its EXIF orientation is applied.

    Of a TIFF file they are upright already.
    """

    pixels: np.ndarray
    orientation: int

    @property
    def nbytes(self) -> int:
        """The memory that the pixels take."""
        return self.pixels.nbytes

    def upright(self) -> np.ndarray:
        """The picture as it is to be seen: [H, W, C] or [W, H, C]."""
        turn = _TURNS.get(self.orientation)
        return turn(self.pixels) if turn else self.pixels

    def square(self, size: int, down: int, right: int) -> np.ndarray:
        """The crop that `read_square` describes."""
        part = cut_square(self.pixels, size, down, right)
        return Stored(part, self.orientation).upright()


def cut_square(pixels: np.ndarray, size: int, down: int, right: int) -> np.ndarray:
    """The square [size, size, C] of [H, W, C] at the place that `read_square` has."""
    height, width, _ = pixels.shape
    left, top, *_ = _square(size, down, right)(width, height)
    return pixels[top : top + size, left : left + size]


def read_stored(
    path: str, size: int, channels: int, white_level: int = 0, deep: bool = False
) -> Stored:
    """Decodes a whole picture, see `read_square` for the arguments and errors."""
    return _read(path, size, channels, white_level, deep)


def read_square(
    path: str,
    size: int,
    channels: int,
    down: int,
    right: int,
    white_level: int = 0,
    deep: bool = False,
) -> np.ndarray:
    """Reads a square crop of a picture: [size, size, channels], gray or RGB.

    It has the picture's resolution. Of n possible positions, counted from the top,
    `down` in [0, 2**32) selects number floor(down * n / 2**32), and `right` likewise,
    counted from the left: 2**31 is the middle, and random numbers give each position
    the same probability. Positions refer to the stored pixels, before EXIF orientation
    is applied (TIFF: after).

    The result is uint8, or uint16 if `deep`. `white_level` is the value of 16-bit
    pictures that becomes the largest one, 255 or 65535. At 0 they keep their values in
    uint16, and lose their lower 8 bits in uint8. 8-bit values become the same share of
    65535 in uint16.

    Raises:
      Exception: it can't be read, or is too small; see `failure_reason`.
    """
    box = _square(size, down, right)
    return _read(path, size, channels, white_level, deep, box).upright()


def read_deep_color(path: str) -> np.ndarray:
    """The pixels of a picture of 16-bit color: uint16 [H, W, 3 or 4].

    Raises:
      Exception: see `failure_reason`; ValueError also for other pictures.
    """
    with opened(path) as picture:
        lower, high = low_tiles(picture), np.asarray(_part(picture, None))
    if lower is None:
        raise ValueError("it does not have 16 bits of color")
    pixels: np.ndarray = high * np.uint16(256) + _lower_bytes(path, 1, lower, None)
    return pixels


def _lower_bytes(path: str, size: int, lower: LowTiles, box: _Box | None) -> np.ndarray:
    """The bytes of 16-bit color that Pillow leaves out: uint8 [H, W, 3 or 4]."""
    with opened(path, size) as picture:
        vars(picture)["tile"] = lower.tiles
        read: np.ndarray = np.asarray(_part(picture, box))[..., lower.bands]
        return read


def _square(size: int, down: int, right: int) -> _Box:
    def box(width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom, in pixels."""
        top = down * (height - size + 1) >> 32
        left = right * (width - size + 1) >> 32
        return left, top, left + size, top + size

    return box


def _read(
    path: str,
    size: int,
    channels: int,
    white_level: int,
    deep: bool,
    box: _Box | None = None,
) -> Stored:
    """Decodes a picture, or the part of it in a box."""
    with opened(path, size) as picture:
        lower = low_tiles(picture) if deep or white_level else None
        part = _part(picture, box)
    low = _lower_bytes(path, size, lower, box) if lower else None
    if deep:
        pixels = _deep(part, low, channels, white_level or WHITE)
    else:
        pixels = _shallow(part, low, channels, white_level)
    return Stored(pixels, orientation_of(part))


def _part(picture: Image.Image, box: _Box | None) -> Image.Image:
    picture.load()  # which turns a TIFF picture upright
    return picture.crop(box(*picture.size) if box else (0, 0, *picture.size))


def _deep(
    picture: Image.Image, low: np.ndarray | None, channels: int, white: int
) -> np.ndarray:
    """uint16 [H, W, channels] of a picture and, for 16-bit color, its lower bytes."""
    if picture.mode.startswith("I"):
        gray = np.asarray(picture).astype(np.uint16)
        hidden = picture.info.get("transparency")
        values = np.where(gray == hidden, WHITE, _scaled(gray, white))
        return np.repeat(values[..., np.newaxis].astype(np.uint16), channels, axis=2)
    if low is None:
        return _shallow(picture, None, channels, 0) * np.uint16(_FACTOR)
    pixels = np.asarray(picture).astype(np.int64) * 256 + low
    color = _scaled(pixels[..., :3], white)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:]
        color = _quotient(color * alpha + WHITE * (WHITE - alpha), WHITE)
    if channels == 1:
        color = _quotient(color @ np.array(_LUMA), sum(_LUMA))[..., np.newaxis]
    return color.astype(np.uint16)


def _shallow(
    picture: Image.Image, low: np.ndarray | None, channels: int, white_level: int
) -> np.ndarray:
    """uint8 [H, W, channels] of a picture, by Pillow's formulas."""
    if picture.mode.startswith("I"):
        gray, hidden = np.asarray(picture), picture.info.get("transparency")
        values = np.where(gray == hidden, 255, _upper(gray, white_level))
        picture = Image.fromarray(values.astype(np.uint8))
    elif low is not None:
        pixels = np.array(picture)
        deep = pixels[..., :3] * np.int64(256) + low[..., :3]
        pixels[..., :3] = _upper(deep, white_level)
        picture = Image.fromarray(pixels)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(picture.height, picture.width, channels)


def _upper(deep: np.ndarray, white_level: int) -> np.ndarray:
    """16-bit values as 8-bit values; see `read_square`."""
    if not white_level:
        return deep >> 8
    capped: np.ndarray = np.minimum(deep, white_level).astype(np.int64)
    return _quotient(255 * capped, white_level)


def _scaled(deep: np.ndarray, white: int) -> np.ndarray:
    """16-bit values, `white` as 65535: int64."""
    return _quotient(WHITE * np.minimum(deep, white).astype(np.int64), white)


def _quotient(dividend: np.ndarray, divisor: int) -> np.ndarray:
    """The quotient of integers that are not negative, rounded to the nearest one."""
    rounded: np.ndarray = (2 * dividend + divisor) // (2 * divisor)
    return rounded
