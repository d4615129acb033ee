"""Reads the IDX files in which MNIST and its successors come.

Layout: two zero bytes, a type (8 = uint8), the number of dimensions, each dimension as
a big-endian int32, then the values (LeCun et al., "The MNIST database", file formats).
"""

import gzip
import math
import os
import struct
import zlib
from typing import BinaryIO

import numpy as np

from aelab.errors import UsageError

_UINT8 = 8
_DEFLATE_MAX_RATIO = 1032  # a byte of gzip holds at most so many (zlib.net/zlib_tech)


def read_idx(path: str, dimensions: int) -> np.ndarray:
    """Reads an IDX file of bytes, gzipped if its name ends in `.gz`.

    Args:
      path: the file.
      dimensions: how many the file must have: 3 for images, 1 for labels.

    Returns:
      uint8 array of the shape that the file's header gives.

    Raises:
      UsageError: the file can't be read, is empty, has another magic number, holds
        nothing, or is shorter or longer than its header says. The sizes are checked
        against the file's length before memory is taken for them.
    """
    try:
        with open(path, "rb") as file:
            if not path.endswith(".gz"):
                return _read(file, path, dimensions, os.path.getsize(path))
            room = os.path.getsize(path) * _DEFLATE_MAX_RATIO
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _read(unzipped, path, dimensions, room)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} can't be read: {error}") from None


def _read(
    file: BinaryIO | gzip.GzipFile, path: str, dimensions: int, room: int
) -> np.ndarray:
    """Reads header and values; `room` is the most that the file can hold, in bytes."""
    header = file.read(4 + 4 * dimensions)
    if not header:
        raise UsageError(f"{path} is empty")
    magic = bytes([0, 0, _UINT8, dimensions])
    if header[:4] != magic:
        raise UsageError(
            f"{path} begins with the bytes {header[:4].hex()}; "
            f"an IDX file of {dimensions}-dimensional uint8 begins with {magic.hex()}"
        )
    if len(header) < 4 + 4 * dimensions:
        raise UsageError(f"{path} ends within its header")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = math.prod(shape)
    if size == 0:
        raise UsageError(f"{path} holds nothing: its header says {_by(shape)}")
    if size > room:
        raise UsageError(f"{path} is cut short: its header says {_by(shape)} bytes")
    values = file.read(size)
    if len(values) < size:
        raise UsageError(
            f"{path} is cut short: its header says {_by(shape)} = {size} bytes, "
            f"and {len(values)} follow"
        )
    if file.read(1):
        raise UsageError(
            f"{path} is longer than its header says: {_by(shape)} = {size} bytes"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
