"""Reads IDX files, the format of MNIST and its successors.

Layout: two zero bytes, a type (8 = uint8), the number of dimensions, each dimension as
a big-endian int32, then the values (LeCun et al., "The MNIST database", file formats).
"""

import contextlib
import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from aelab.errors import UsageError
from aelab.system.console import warn

GZIP_MAGIC = b"\x1f\x8b"

_UINT8 = 8
_BLOCK = 2**16  # bytes
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


class IdxFile(contextlib.AbstractContextManager["IdxFile"]):
    """An IDX file of bytes, whose `shape[0]` items are read some at a time."""

    def __init__(self, path: str, dimensions: int):
        """Opens a file, gzipped or not, whatever its name, and reads its header.

        Raises:
          UsageError: the file can't be read, is empty, has another magic number (images
            have 3 dimensions, labels 1), or is too short for the shape in its header.
        """
        self._path = path
        try:
            with open(path, "rb") as file:
                is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            open_file: Any = gzip.open if is_gzip else open
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

        A warning says that more bytes follow the last item; they are not read.

        Raises:
          UsageError: the file can't be read, or is shorter than its header says.
        """
        shape = (count, *self.shape[1:])
        values = self._bytes(math.prod(shape))
        if len(values) < math.prod(shape):
            raise UsageError(
                f"{self._path} is cut short: its header says {_by(self.shape)} bytes, "
                "but fewer follow"
            )
        self._left -= count
        if not self._left and self._has_more():
            warn(
                f"{self._path} has more bytes than the {_by(self.shape)} that its "
                "header says; they are ignored"
            )
        return np.frombuffer(values, np.uint8).reshape(shape)

    def _header(self, dimensions: int, room: int) -> tuple[int, ...]:
        """Reads the shape; the file can hold at most `room` bytes of values."""
        path, header = self._path, self._bytes(4 + 4 * dimensions)
        if not header:
            raise UsageError(f"{path} is empty")
        if header.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            raise UsageError(
                f"{path} is not an IDX file but a web page, for example on an error of "
                "the server that it is from: download it again"
            )
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
        with self._reading():
            return self._file.read(count)

    def _has_more(self) -> bool:
        """Whether bytes follow. Reads to the end, where gzip checks its sums."""
        has_more = False
        with self._reading():
            try:
                while self._file.read(_BLOCK):
                    has_more = True
            except gzip.BadGzipFile as error:
                if not str(error).startswith("Not a gzipped file"):
                    raise
                has_more = True  # what was read was whole
        return has_more

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{self._path} can't be read: {error}") from None


def _by(shape: tuple[int, ...]) -> str:
    """For example `60000 x 28 x 28`."""
    return " x ".join(map(str, shape))
