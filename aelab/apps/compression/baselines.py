"""What learned compression must beat: real files of other codecs."""

import io
from collections.abc import Callable, Iterator
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
from aelab.apps.compression.inputs import png_of
from aelab.apps.compression.tables import Tables
from aelab.errors import UsageError

NAME = "images-idx3-ubyte"  # that a file of many images has in its header

_COMPONENTS = (16, 32, 64, 96)
_STEPS = (0.35, 0.5, 0.7, 1.0)
_QUALITIES = {
    "JPEG": (1, 5, 10, 20, 30, 50),
    "WEBP": (0, 1, 5, 10, 25, 50),
    "AVIF": (1, 10, 20, 30, 40, 55),
}
_ALONE_QUALITIES = {"JPEG": (5, 30), "WEBP": (5, 30), "AVIF": (10, 40)}


class Point(NamedTuple):
    """Images after compression, and how many bytes that took.

    Attributes:
      codec: its name, that of a curve.
      setting: which point of the curve.
      file_bytes: of all files, headers included.
      images: uint8 [n, H, W, C], decoded.
      ideal_bytes: by the tables' probabilities, None if it has none.
      model_bytes: of what the decoder needs besides, which is not counted, None if it
        needs nothing.
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
    """Length of the `.aelab` file of some images' symbols, int32 [n, places].

    Returns:
      That, and how many bytes the symbols take by their probabilities.
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
    """Principal components of training images, rounded, by the same entropy coder.

    Args:
      images: uint8 [n, H, W, C], which are compressed.
      training: the same, which components and probabilities are learned from.

    Raises:
      UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import PCA
    except ImportError:
        raise UsageError(
            "principal components need scikit-learn: "
            "pip install -c constraints.txt -e '.[eval]'"
        ) from None
    learned = _rows(training)
    most = min(*learned.shape, max(_COMPONENTS))
    pca = PCA(most, svd_solver="randomized", random_state=0).fit(learned)
    codes, training_codes = pca.transform(_rows(images)), pca.transform(learned)
    for count in sorted({min(count, most) for count in _COMPONENTS}):
        for step in _STEPS:
            known = np.rint(training_codes[:, :count] / step).astype(np.int32)
            tables = fit_tables(known, step)
            symbols = tables.clip(np.rint(codes[:, :count] / step))
            rows = symbols * step @ pca.components_[:count] + pca.mean_
            decoded = np.rint(255 * np.clip(rows, 0, 1)).astype(np.uint8)
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
    return images.reshape(len(images), -1).astype(np.float32) / 255


def picture_codecs(images: np.ndarray) -> Iterator[Point]:
    """PNG, JPEG, WebP and AVIF by Pillow, one file an image and all in one mosaic.

    AVIF is left out where Pillow comes without it.

    Args:
      images: uint8 [n, H, W, C].
    """
    mosaic = _Mosaic(len(images), *images.shape[1:])
    whole = mosaic.join(images)
    yield Point("PNG, one file each", "lossless", _sizes(images, "PNG"), images)
    yield Point("PNG mosaic", "lossless", len(_encode(whole, "PNG")), images)
    for kind in _QUALITIES:
        if kind == "AVIF" and not features.check("avif"):
            continue
        for quality in _ALONE_QUALITIES[kind]:
            files = [_encode(image, kind, quality) for image in images]
            decoded = np.stack([_decode(file, images.shape[3]) for file in files])
            size = sum(map(len, files))
            yield Point(f"{kind}, one file each", f"quality {quality}", size, decoded)
        for quality in _QUALITIES[kind]:
            file = _encode(whole, kind, quality)
            decoded = mosaic.split(_decode(file, images.shape[3]))
            yield Point(f"{kind} mosaic", f"quality {quality}", len(file), decoded)


def _sizes(images: np.ndarray, kind: str) -> int:
    return sum(len(_encode(image, kind)) for image in images)


def _encode(image: np.ndarray, kind: str, quality: int | None = None) -> bytes:
    """A file of an image, uint8 [H, W, C], as small as its encoder makes it."""
    options: dict[str, dict[str, Any]] = {
        "PNG": {"optimize": True},
        "JPEG": {"optimize": True, "quality": quality},
        "WEBP": {"method": 6, "quality": quality},
        "AVIF": {"quality": quality},
    }
    file = io.BytesIO()
    png_of(image).save(file, kind, **options[kind])
    return file.getvalue()


def _decode(file: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as picture:
        pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


class _Mosaic:
    """Many images as one, in a grid that is as square as can be; the rest is black."""

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

    def split(self, whole: np.ndarray) -> np.ndarray:
        """What `join` made, apart again."""
        height, width, channels = self._shape
        grid = whole.reshape(self._rows, height, self._columns, width, channels)
        cells: np.ndarray = grid.swapaxes(1, 2).reshape(-1, *self._shape)
        return cells[: self._count]


BASELINES_OF_CODECS: dict[str, Callable[[np.ndarray, np.ndarray], Iterator[Point]]] = {
    "principal components": principal_components,
    "picture codecs": lambda images, training: picture_codecs(images),
}
