"""Baselines for learned compression: other codecs' real file sizes."""

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from aelab.apps.compression import file_format
from aelab.apps.compression.compress import code_block
from aelab.apps.compression.file_blocks import block_images
from aelab.apps.compression.fit_tables import fit_tables
from aelab.apps.compression.inputs import to_pillow
from aelab.apps.compression.tables import Tables
from aelab.apps.evaluation.baselines import fit_pca
from aelab.data.pixels import to_bytes, to_unit

NAME = "images-idx3-ubyte"  # the member's name in the header of a measured file

_COMPONENTS = (16, 32, 64, 96)
_STEPS = (0.35, 0.5, 0.7, 1.0)
_QUALITIES = {  # for one file each, and for a mosaic
    "JPEG": ((5, 30), (1, 5, 10, 20, 30, 50)),
    "WEBP": ((5, 30), (0, 1, 5, 10, 25, 50)),
    "AVIF": ((10, 40), (1, 10, 20, 30, 40, 55)),
}


class Point(NamedTuple):
    """Decoded images, uint8 [n, H, W, C], and the size of their compressed files."""

    codec: str  # also the name of its curve
    setting: str
    file_bytes: int  # headers included, the model excluded
    images: np.ndarray
    ideal_bytes: float | None = None  # by the tables' probabilities
    model_bytes: int | None = None  # of the model that decoding needs


def packed_bytes(
    symbols: np.ndarray, tables: Tables, shape: tuple[int, int, int]
) -> tuple[int, float]:
    """Bytes of the `.aelab` file of symbols, int32 [n, places], and their ideal size.

    The ideal size is by the probabilities. `shape` is (height, width, channels).
    """
    members = [file_format.Member(file_format.IDX, len(symbols), NAME)]
    header = file_format.Header(bytes(8), tables.crc, shape, members)
    size = block_images(shape)
    firsts = range(0, len(symbols), size)
    blocks = [code_block(n, symbols[n : n + size], tables) for n in firsts]
    start = file_format.pack_header(header)
    parts = [start, *(block for block, _ in blocks), file_format.pack_copy(start)]
    return sum(map(len, parts)), sum(ideal for _, ideal in blocks)


def principal_components(images: np.ndarray, training: np.ndarray) -> Iterator[Point]:
    """Rounded principal components, with the same entropy coder as our models.

    Components and tables are fitted to `training`, uint8 like `images`.
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

    The images are uint8 [n, H, W, C]. AVIF is left out if Pillow lacks it.
    """
    channels = images.shape[3]
    joined = _join(images)
    size = sum(len(_encode(image, "PNG")) for image in images)
    yield Point("PNG, one file each", "lossless", size, images)
    yield Point("PNG mosaic", "lossless", len(_encode(joined, "PNG")), images)
    for kind, (single, mosaic) in _QUALITIES.items():
        if kind == "AVIF" and not features.check("avif"):
            continue
        for quality in single:
            files = [_encode(image, kind, quality) for image in images]
            decoded = np.stack([_decode(file, channels) for file in files])
            size = sum(map(len, files))
            yield Point(f"{kind}, one file each", f"quality {quality}", size, decoded)
        for quality in mosaic:
            file = _encode(joined, kind, quality)
            decoded = _split(_decode(file, channels), images.shape)
            yield Point(f"{kind} mosaic", f"quality {quality}", len(file), decoded)


def _encode(image: np.ndarray, kind: str, quality: int = 0) -> bytes:
    """An image, uint8 [H, W, C], as a file.

    The encoders work as hard as they can, except for AVIF's, which would take minutes
    for a large mosaic.
    """
    file = io.BytesIO()
    # An encoder ignores the options of others: PNG has no quality, only WebP a method.
    to_pillow(image).save(file, kind, quality=quality, optimize=True, method=6)
    return file.getvalue()


def _decode(file: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as picture:
        pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _grid(count: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a nearly square mosaic of so many images."""
    columns = max(1, round((count * height / width) ** 0.5))
    return -(-count // columns), columns


def _join(images: np.ndarray) -> np.ndarray:
    """A mosaic of images, [rows * H, columns * W, C]; unused cells are black."""
    count, height, width, channels = images.shape
    rows, columns = _grid(count, height, width)
    cells = np.pad(images, [(0, rows * columns - count), (0, 0), (0, 0), (0, 0)])
    grid = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return np.asarray(grid.reshape(rows * height, columns * width, channels))


def _split(mosaic: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `_join`, for images of this shape."""
    count, height, width, channels = shape
    rows, columns = _grid(count, height, width)
    grid = mosaic.reshape(rows, height, columns, width, channels).swapaxes(1, 2)
    return np.asarray(grid.reshape(-1, height, width, channels)[:count])
