"""Reads and writes the picture files that are denoised."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image, TiffTags

from aelab.apps.denoising import png
from aelab.data.decode import read_deep_color
from aelab.data.frames import check_single
from aelab.data.image_files import (
    failure_reason,
    has_16_bits,
    opened,
    quiet_pillow,
)
from aelab.system.files import atomic_write

_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "I;16B")
_CONVERTED = {"1": "L", "P": "RGB", "PA": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}
_METADATA: dict[str, tuple[str, ...]] = {
    "BMP": ("dpi",),
    "JPEG": ("exif", "xmp", "icc_profile", "dpi"),
    "WEBP": ("exif", "xmp", "icc_profile"),
    "TIFF": ("exif", "xmp", "icc_profile", "dpi"),
}
# Of TIFF: description, camera, software, date, artist, copyright, EXIF and GPS.
_KEPT_TAGS = (270, 271, 272, 305, 306, 315, 33432, 34665, 34853)
_XMP = 700
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_deflate"},
}
_MAX_DPI = 65535  # the largest value that JPEG can hold


class PictureError(ValueError):
    """A file that can't be denoised; the message gives the reason."""


class Picture(NamedTuple):
    """The content of a picture file.

    `pixels` are uint8 or uint16 [H, W, C]; C is 1 for gray, 3 for color, one more with
    alpha. They are as stored: EXIF orientation is not applied.
    """

    pixels: np.ndarray
    format: str  # to write: `PNG`, `JPEG`, `WEBP`, `BMP` or `TIFF`
    metadata: dict[str, Any]  # arguments for Pillow's `save`
    chunks: bytes  # instead of `metadata` for a PNG file: the chunks to keep


def read_picture(path: str) -> Picture:
    """Reads a picture file; its content determines the format, not its name.

    Raises:
      PictureError: the file can't be read, is damaged or not a picture, declares more
        than 250 megapixels, or holds what can't be kept: several pictures, or colors
        other than 8 bits of gray or RGB, or 16 in a PNG or TIFF file.
    """
    try:
        with quiet_pillow(), opened(path) as image:
            return _read(image, path)
    except Exception as error:  # damaged data makes decoders raise anything
        if isinstance(error, MemoryError):
            raise
        raise PictureError(failure_reason(error)) from None


def write_picture(path: str, picture: Picture) -> None:
    """Writes a picture in its format, completely or not at all.

    Raises:
      OSError: it can't be written; an existing file stays as it is.
    """
    with atomic_write(path) as temporary:
        if picture.format == "PNG":
            png.write_png(temporary, [picture.pixels], picture.chunks)
            return
        pixels = picture.pixels
        if pixels.dtype == np.uint16 and pixels.shape[2] > 2:
            _write_deep_tiff(temporary, pixels, picture.metadata)
            return
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        options = _SAVE_OPTIONS.get(picture.format, {}) | picture.metadata
        image.save(temporary, picture.format, **options)


def _write_deep_tiff(
    path: str, pixels: np.ndarray, metadata: Mapping[str, Any]
) -> None:
    """Writes uint16 [H, W, 3 or 4] as TIFF, which Pillow can't.

    Of the metadata, the EXIF and GPS blocks are left out, which tifffile can't write.
    """
    dpi = metadata.get("dpi")
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        extrasamples=["unassalpha"] * (pixels.shape[2] - 3),
        compression="zlib",
        metadata=None,
        software=False,
        iccprofile=metadata.get("icc_profile"),
        resolution=dpi and tuple(map(float, dpi)),
        resolutionunit="INCH" if dpi else None,
        extratags=_extra_tags(metadata),
    )


def _extra_tags(metadata: Mapping[str, Any]) -> list[tuple[int, str, int, bytes, bool]]:
    """The text tags and the XMP of a TIFF picture, as tifffile takes them."""
    exif = Image.Exif()
    exif.load(metadata.get("exif", b""))
    texts = ((tag, exif.get(tag)) for tag in _KEPT_TAGS)
    tags = [
        (tag, "s", 0, text.encode("latin-1", "replace"), True)
        for tag, text in texts
        if isinstance(text, str)
    ]
    if xmp := exif.get(_XMP):
        tags.append((_XMP, "B", len(xmp), xmp, True))
    return tags


def write_comparison(path: str, before: np.ndarray, after: Picture) -> None:
    """Writes a picture before and after denoising as PNG, side by side.

    `before` has the type and shape of `after.pixels`. Fails like `write_picture`.
    """
    chunks = after.chunks or png.make_chunks(after.metadata)
    with atomic_write(path) as temporary:
        png.write_png(temporary, [before, after.pixels], chunks)


def _read(image: Image.Image, path: str) -> Picture:
    """The content of an opened picture file, see `read_picture`."""
    check_single(image)
    kind = image.format or ""
    if kind == "PNG":
        has_transparent_color = "transparency" in image.info and image.mode != "P"
        pixels, chunks = png.read_png(path, has_transparent_color)
        if has_transparent_color and image.mode != "RGB":
            pixels = pixels[..., [0, 3]]
        return Picture(pixels, kind, {}, chunks)
    if kind == "BMP" and image.mode == "RGBA":
        raise PictureError("it is a BMP file with alpha, which could not be kept")
    mode = _CONVERTED.get(image.mode, image.mode)
    if "transparency" in image.info:  # a color of a GIF file
        mode += "A"
    if kind == "TIFF" and mode.startswith("RGB") and has_16_bits(image):
        image.load()  # which removes the orientation from its metadata
        return Picture(read_deep_color(path), kind, _metadata(image, kind), b"")
    if mode not in _MODES:
        raise PictureError(f"its colors are {mode}; gray or RGB are allowed")
    pixels = np.asarray(image if mode == image.mode else image.convert(mode))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.uint16)  # in the machine's byte order
    return Picture(
        pixels, "PNG" if kind == "GIF" else kind, _metadata(image, kind), b""
    )


def _metadata(image: Image.Image, kind: str) -> dict[str, Any]:
    """Arguments for Pillow's `save`, of the metadata that can be saved."""
    found, kept = dict(image.info), {}
    if kind == "TIFF":
        found["exif"] = _descriptive_tags(image)
        if not TiffTags.TAGS_V2_GROUPS.keys().isdisjoint(image.getexif()):
            kept["compression"] = "raw"  # Pillow compresses no file with such blocks
    for name in _METADATA.get(kind, ()):
        if not found.get(name):
            continue
        try:  # a damaged or too large block, or 0/0 or 1/0 as resolution
            options = _SAVE_OPTIONS.get(kind, {}) | kept | {name: found[name]}
            Image.new("L", (1, 1)).save(io.BytesIO(), kind, **options)
            if name != "dpi" or all(1 <= float(dpi) <= _MAX_DPI for dpi in found[name]):
                kept[name] = found[name]
        except Exception:  # rubbish makes Pillow raise anything
            pass
    return kept


def _descriptive_tags(image: Image.Image) -> bytes:
    """The EXIF block of the tags of a TIFF picture that do not describe its storage."""
    tags, kept = image.getexif(), Image.Exif()
    for tag in _KEPT_TAGS:
        if tag in TiffTags.TAGS_V2_GROUPS:  # a block; those within it are left out
            block = tags.get_ifd(tag).items()
            kept[tag] = {n: v for n, v in block if n not in TiffTags.TAGS_V2_GROUPS}
        elif tag in tags:
            text = tags[tag]  # as Latin-1; of 8-bit pictures Pillow writes only ASCII
            kept[tag] = text.encode("latin-1") if isinstance(text, str) else text
        if not kept.get(tag):
            kept.pop(tag, None)
    if image.info.get("xmp"):
        kept[_XMP] = image.info["xmp"]  # without an orientation
    return kept.tobytes() if kept else b""
