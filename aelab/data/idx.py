"""Reads IDX files, the format of MNIST and its successors.

Layout: two zero bytes, a type (8 = uint8), the number of dimensions, each dimension as
a big-endian int32, then the values (LeCun et al., "The MNIST database", file formats).
"""

import gzip
import math
import os
import struct
import zlib
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

import numpy as np

from aelab.errors import UsageError

_UINT8 = 8
_DEFLATE_MAX_RATIO = 1032  # bytes that a byte of gzip can hold (zlib.net/zlib_tech)


def read_idx(path: str, dimensions: int) -> np.ndarray:
    """Reads a whole IDX file of bytes: uint8, of the shape in its header.

    Raises:
      UsageError: `IdxFile` refuses the file, or the file has no values.
    """
    with IdxFile(path, dimensions) as file:
        if math.prod(file.shape) == 0:
            raise UsageError(f"{path} has no values: its header says {_by(file.shape)}")
        return file.read(file.shape[0])


def idx_header(shape: tuple[int, ...]) -> bytes:
    """The header of an IDX file of uint8 values of this shape."""
    return bytes([0, 0, _UINT8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


class IdxFile(AbstractContextManager["IdxFile"]):
    """An IDX file of bytes, whose `shape[0]` items are read some at a time."""

    def __init__(self, path: str, dimensions: int):
        """Opens a file, gzipped if its name ends in `.gz`, and reads its header.

        Raises:
          UsageError: the file can't be read, is empty, has another magic number (images
            have 3 dimensions, labels 1), or is too short for the shape in its header.
        """
        self._path, is_gzip = path, path.endswith(".gz")
        open_file: Any = gzip.open if is_gzip else open
        try:
            self._file: BinaryIO = open_file(path, "rb")
            room = os.path.getsize(path) * (_DEFLATE_MAX_RATIO if is_gzip else 1)
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error}") from None
        try:
            self.shape = self._header(dimensions, room)
        except UsageError:
            self._file.close()
            raise
        self._left = self.shape[0]

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def read(self, count: int) -> np.ndarray:
        """Reads the next `count` items, uint8 [count, ...]; so many must be left.

        Raises:
          UsageError: the file can't be read, or its length contradicts its header.
        """
        shape = (count, *self.shape[1:])
        values = self._bytes(math.prod(shape))
        if len(values) < math.prod(shape):
            raise UsageError(
                f"{self._path} is cut short: its header says {_by(self.shape)} bytes, "
                "but fewer follow"
            )
        self._left -= count
        if not self._left and self._bytes(1):
            raise UsageError(
                f"{self._path} is longer than its header says: {_by(self.shape)} bytes"
            )
        return np.frombuffer(values, np.uint8).reshape(shape)

    def _header(self, dimensions: int, room: int) -> tuple[int, ...]:
        """Reads the shape; the file can hold at most `room` bytes of values."""
        path, header = self._path, self._bytes(4 + 4 * dimensions)
        if not header:
            raise UsageError(f"{path} is empty")
        magic = bytes([0, 0, _UINT8, dimensions])
        if header[:4] != magic:
            raise UsageError(
                f"{path} begins with the bytes {header[:4].hex()}; an IDX file of "
                f"{dimensions}-dimensional uint8 begins with {magic.hex()}"
            )
        if len(header) < 4 + 4 * dimensions:
            raise UsageError(f"{path} ends within its header")
        shape = struct.unpack(f">{dimensions}I", header[4:])
        if math.prod(shape) > room:
            raise UsageError(f"{path} is cut short: its header says {_by(shape)} bytes")
        return shape

    def _bytes(self, count: int) -> bytes:
        """Reads up to `count` bytes."""
        try:
            return self._file.read(count)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{self._path} can't be read: {error}") from None


def _by(shape: tuple[int, ...]) -> str:
    """For example `60000 x 28 x 28`."""
    return " x ".join(map(str, shape))
