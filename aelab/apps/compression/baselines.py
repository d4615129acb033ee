"""Baselines for learned compression: other codecs' real file sizes."""

import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

from aelab.apps.compression.compress import code_block
from aelab.apps.compression.file_format import (
    IDX,
    Header,
    Member,
    block_images,
    pack_header,
)
from aelab.apps.compression.fit_tables import fit_tables
from aelab.apps.compression.inputs import to_pillow
from aelab.apps.compression.tables import Tables
from aelab.apps.evaluation.baselines import fit_pca
from aelab.data.pixels import to_bytes, to_unit

NAME = "images-idx3-ubyte"  # the member's name in the header of a measured file

_COMPONENTS = (16, 32, 64, 96)
_STEPS = (0.35, 0.5, 0.7, 1.0)
_MOSAIC_QUALITIES = {
    "JPEG": (1, 5, 10, 20, 30, 50),
    "WEBP": (0, 1, 5, 10, 25, 50),
    "AVIF": (1, 10, 20, 30, 40, 55),
}
_SINGLE_QUALITIES = {"JPEG": (5, 30), "WEBP": (5, 30), "AVIF": (10, 40)}


class Point(NamedTuple):
    """Decoded images and the size of their compressed files.

    Attributes:
      codec: name of the codec, and of its curve.
      setting: the codec's setting at this point of the curve.
      file_bytes: size of all files, headers included.
      images: uint8 [n, H, W, C], decoded.
      ideal_bytes: size by the tables' probabilities, None without tables.
      model_bytes: size of the model that decoding needs, which is not part of
        `file_bytes`; None without a model.
    """

    codec: str
    setting: str
    file_bytes: int
    images: np.ndarray
    ideal_bytes: float | None = None
    model_bytes: int | None = None


def packed_bytes(
    symbols: np.ndarray, tables: Tables, shape: tuple[int, ...]
) -> tuple[int, float]:
    """The size of the `.aelab` file of images' symbols, int32 [n, places].

    Returns:
      The size in bytes, and the ideal size of the symbols by their probabilities.
    """
    height, width, channels = shape
    members = [Member(IDX, len(symbols), NAME)]
    header = Header(bytes(8), tables.crc, (height, width, channels), members)
    size = block_images(header.image_shape)
    blocks = [
        code_block(first, symbols[first : first + size], tables)
        for first in range(0, len(symbols), size)
    ]
    ideal_bytes = sum(ideal for _, ideal in blocks)
    return len(pack_header(header)) + sum(len(b) for b, _ in blocks), ideal_bytes


def principal_components(images: np.ndarray, training: np.ndarray) -> Iterator[Point]:
    """Rounded principal components, with the same entropy coder as our models.

    Args:
      images: uint8 [n, H, W, C], the images to compress.
      training: uint8 [m, H, W, C], the images to which components and tables are
        fitted.

    Raises:
      UsageError: scikit-learn or constriction is not installed.
    """
    pca = fit_pca(_rows(training), max(_COMPONENTS), max_exact=0)
    codes, training_codes = pca.transform(_rows(images)), pca.transform(_rows(training))
    mean, axes = pca.mean_, pca.components_
    for count in sorted({min(count, len(axes)) for count in _COMPONENTS}):
        for step in _STEPS:
            fitted = np.rint(training_codes[:, :count] / step).astype(np.int32)
            tables = fit_tables(fitted, step)
            symbols = tables.clip(np.rint(codes[:, :count] / step))
            decoded = to_bytes(symbols * step @ axes[:count] + mean)
            size, ideal_bytes = packed_bytes(symbols, tables, images.shape[1:])
            yield Point(
                "PCA",
                f"{count} components, step {step:g}",
                size,
                decoded.reshape(images.shape),
                ideal_bytes,
                4 * (count + 1) * decoded.shape[1] + tables.frequencies.nbytes,
            )


def _rows(images: np.ndarray) -> np.ndarray:
    """Images as float32 rows in [0, 1]."""
    return to_unit(images).reshape(len(images), -1)


def image_codecs(images: np.ndarray) -> Iterator[Point]:
    """PNG, JPEG, WebP and AVIF by Pillow: one file per image, and one mosaic of all.

    AVIF is left out if Pillow lacks it.

    Args:
      images: uint8 [n, H, W, C].
    """
    channels = images.shape[3]
    mosaic = _Mosaic(len(images), *images.shape[1:])
    joined = mosaic.join(images)
    size = sum(len(_encode(image, "PNG")) for image in images)
    yield Point("PNG, one file each", "lossless", size, images)
    yield Point("PNG mosaic", "lossless", len(_encode(joined, "PNG")), images)
    for kind in _MOSAIC_QUALITIES:
        if kind == "AVIF" and not features.check("avif"):
            continue
        for quality in _SINGLE_QUALITIES[kind]:
            files = [_encode(image, kind, quality) for image in images]
            decoded = np.stack([_decode(file, channels) for file in files])
            size = sum(map(len, files))
            yield Point(f"{kind}, one file each", f"quality {quality}", size, decoded)
        for quality in _MOSAIC_QUALITIES[kind]:
            file = _encode(joined, kind, quality)
            decoded = mosaic.split(_decode(file, channels))
            yield Point(f"{kind} mosaic", f"quality {quality}", len(file), decoded)


def _encode(image: np.ndarray, kind: str, quality: int | None = None) -> bytes:
    """An image, uint8 [H, W, C], as a file as small as its encoder can make it."""
    options: dict[str, dict[str, Any]] = {
        "PNG": {"optimize": True},
        "JPEG": {"optimize": True, "quality": quality},
        "WEBP": {"method": 6, "quality": quality},
        "AVIF": {"quality": quality},
    }
    file = io.BytesIO()
    to_pillow(image).save(file, kind, **options[kind])
    return file.getvalue()


def _decode(file: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as picture:
        pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


class _Mosaic:
    """Images joined in a grid, nearly square; unused cells are black."""

    def __init__(self, count: int, height: int, width: int, channels: int):
        self._count = count
        self._columns = max(1, round((count * height / width) ** 0.5))
        self._rows = -(-count // self._columns)
        self._shape = height, width, channels

    def join(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, H, W, C] to [rows * H, columns * W, C]."""
        height, width, channels = self._shape
        cells = np.zeros((self._rows * self._columns, *self._shape), np.uint8)
        cells[: self._count] = images
        grid = cells.reshape(self._rows, self._columns, *self._shape)
        joined: np.ndarray = grid.swapaxes(1, 2)
        return joined.reshape(self._rows * height, self._columns * width, channels)

    def split(self, joined: np.ndarray) -> np.ndarray:
        """The inverse of `join`."""
        height, width, channels = self._shape
        grid = joined.reshape(self._rows, height, self._columns, width, channels)
        cells: np.ndarray = grid.swapaxes(1, 2).reshape(-1, *self._shape)
        return cells[: self._count]
