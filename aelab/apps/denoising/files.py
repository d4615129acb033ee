"""Reads and writes picture files."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from aelab.data import png
from aelab.system.files import atomic_write

MAX_PIXELS = 250_000_000
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "I;16B")
_CONVERTED = {"1": "L", "P": "RGB", "PA": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}
_METADATA: dict[str, tuple[str, ...]] = {
    "JPEG": ("exif", "icc_profile", "dpi"),
    "WEBP": ("exif", "icc_profile"),
    "TIFF": ("icc_profile", "dpi"),
}
_SAVING: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_deflate"},
    "BMP": {},
}
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF
_MAX_DPI = 65535  # what JPEG can hold


class PictureError(ValueError):
    """A file that is no picture that can be denoised; the message says why."""


class Picture(NamedTuple):
    """What a picture file holds.

    Attributes:
      pixels: uint8 or uint16 [H, W, C]; C is 1 for gray, 3 for colour, one more with
        alpha. As they are stored: not turned as EXIF may ask for.
      format: `PNG`, `JPEG`, `WEBP`, `BMP` or `TIFF`, by the content.
      metadata: what Pillow's `save` is to be given.
      chunks: of a PNG file, instead of that: the chunks to be kept.
    """

    pixels: np.ndarray
    format: str
    metadata: dict[str, Any]
    chunks: bytes


def read_picture(path: str) -> Picture:
    """Reads a picture file, whatever its name ends in.

    Raises:
      PictureError: it can't be read, is damaged or no picture, declares more than
        `MAX_PIXELS`, or holds what can't be kept: several pictures, or colours other
        than 8 bits of gray or RGB, or 16 in a PNG file or a gray TIFF file.
    """
    try:
        with _opened(path) as image:
            return _read(image, path)
    except PictureError:
        raise
    except UnidentifiedImageError:
        known = "PNG, JPEG, WebP, BMP or TIFF"
        raise PictureError(
            f"it is no {known} picture, or its head is damaged"
        ) from None
    except Exception as error:  # decoders raise whatever damage leads them to
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError(reason or type(error).__name__) from None


def write_picture(path: str, picture: Picture) -> None:
    """Writes a picture in its format, whole or not at all.

    Raises:
      OSError: it can't be written; what `path` held stays.
    """
    with atomic_write(path) as aside:
        if picture.format == "PNG":
            png.write_png(aside, [picture.pixels], picture.chunks)
            return
        pixels = picture.pixels
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        arguments = _SAVING[picture.format] | picture.metadata
        image.save(aside, picture.format, **arguments)


def write_comparison(path: str, before: np.ndarray, after: Picture) -> None:
    """Writes a picture and what became of it side by side, as PNG.

    Args:
      path: the file.
      before: pixels of the same type and shape as those of `after`.
      after: what became of them.

    Raises:
      OSError: it can't be written; what `path` held stays.
    """
    chunks = after.chunks or png.make_chunks(after.metadata)
    with atomic_write(path) as aside:
        png.write_png(aside, [before, after.pixels], chunks)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    """A Pillow image of which only the head is read, whose size is a sane one.

    Pillow's own limit would stop what is not unusual here.
    """
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is not as it should be
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise PictureError(
                        f"it declares {image.width:,} x {image.height:,} pixels; "
                        f"{MAX_PIXELS:,} are allowed"
                    )
                yield image
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _read(image: Any, path: str) -> Picture:
    # Cameras put a preview behind a JPEG picture, which Pillow then calls MPO.
    kind = "JPEG" if image.format == "MPO" else image.format
    frames = getattr(image, "n_frames", 1)
    if kind != "JPEG" and frames > 1:
        raise PictureError(f"it holds {frames} pictures, of which one would be kept")
    if kind == "PNG":
        has_transparent_colour = "transparency" in image.info and image.mode != "P"
        pixels, chunks = png.read_png(path, has_transparent_colour)
        if has_transparent_colour and image.mode != "RGB":
            pixels = pixels[..., [0, 3]]
        return Picture(pixels, kind, {}, chunks)
    _check_bits(image)
    names = [name for name in _METADATA.get(kind, ()) if name in image.info]
    metadata = {name: image.info[name] for name in names}
    if not all(1 <= float(dpi) <= _MAX_DPI for dpi in metadata.get("dpi", ())):
        del metadata["dpi"]  # a broken one, as 0/0 or 1/0 of TIFF
    if image.mode in _CONVERTED:
        has_alpha = "transparency" in image.info
        image = image.convert("RGBA" if has_alpha else _CONVERTED[image.mode])
    if kind == "BMP" and image.mode == "RGBA":
        raise PictureError("it is a BMP file with alpha, which could not be kept")
    if image.mode not in _MODES:
        raise PictureError(f"its colours are {image.mode}; gray or RGB are allowed")
    pixels = np.asarray(image)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.uint16)  # in this machine's order of bytes
    return Picture(pixels, kind, metadata, b"")


def _check_bits(image: Any) -> None:
    """Refuses TIFF files of which Pillow would drop or misread bits."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    bits = set(image.tag_v2.get(_BITS, (1,)))
    is_gray16 = image.mode.startswith("I;16") and bits == {16}
    if max(bits) > 8 and not (is_gray16 and image.tag_v2.get(_PHOTOMETRIC) == 1):
        raise PictureError(
            f"it has {max(bits)} bits a channel; a TIFF file may have 8, or 16 of gray "
            "with black as 0, and a PNG file 16 of any colour"
        )
