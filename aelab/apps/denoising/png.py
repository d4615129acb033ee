"""Reads and writes PNG files with 16 bits and metadata, which Pillow does not keep."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf
from PIL import Image, PngImagePlugin

from aelab.data.tolerant_pillow import PNG_METADATA

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTH = 24  # its position in the file
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_PAETH = 4  # number of the filter
_STRIP_BYTES = 2**18
_PIXEL_CHUNKS = b"IHDR PLTE tRNS IDAT IEND".split()


def read_png(path: str, has_transparent_color: bool) -> tuple[np.ndarray, bytes]:
    """Reads a PNG file: pixels, uint8 or uint16 [H, W, 1 to 4], and chunks to keep.

    Palettes become color, and fewer than 8 bits become 8. A color that is declared
    transparent becomes an alpha channel, because changed pixels no longer have it.

    Raises:
      ValueError: the file is damaged.
    """
    with open(path, "rb") as file:
        bits = file.read(_BIT_DEPTH + 1)[_BIT_DEPTH]
        chunks = _read_chunks(file, PNG_METADATA)
        content = _SIGNATURE + _read_chunks(file, _PIXEL_CHUNKS)
    try:
        with tf.device("CPU:0"):
            pixels = tf.io.decode_png(
                content,  # libpng refuses large metadata
                channels=4 if has_transparent_color else 0,
                dtype=tf.uint16 if bits == 16 else tf.uint8,
            )
    except tf.errors.InvalidArgumentError:
        raise ValueError("its PNG data is damaged or cut off") from None
    return np.asarray(memoryview(pixels)), chunks


def _read_chunks(file: BinaryIO, kinds: Sequence[bytes]) -> bytes:
    """The chunks of some kinds of a PNG file, without damaged metadata."""
    chunks: list[bytes] = []
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in kinds:
            content = file.read(length + 4)
            checksum = zlib.crc32(content[:-4], zlib.crc32(kind))
            is_intact = content[-4:] == struct.pack(">I", checksum)
            if is_intact or kind not in PNG_METADATA:
                chunks += head, content
        else:
            file.seek(length + 4, io.SEEK_CUR)
    return b"".join(chunks)


def make_chunks(metadata: dict[str, Any]) -> bytes:
    """The chunks for arguments of Pillow's `save`: all of files.py's `_METADATA`."""
    texts = PngImagePlugin.PngInfo()
    if "xmp" in metadata:
        texts.add_itxt("XML:com.adobe.xmp", metadata["xmp"])
    with io.BytesIO() as file:
        Image.new("L", (1, 1)).save(file, "PNG", pnginfo=texts, **metadata)
        return _read_chunks(file, PNG_METADATA)


def write_png(path: str, parts: Sequence[np.ndarray], chunks: bytes = b"") -> None:
    """Writes arrays of pixels, side by side, as one PNG file (ISO/IEC 15948).

    The arrays are uint8 or uint16 [H, W, C], from left to right, and only W may differ.
    C is 1 for gray, 3 for color, one more with alpha. `chunks` are further chunks to
    write, see `read_png`. Strips of rows need little memory besides the pixels. All
    rows have the Paeth filter. Files are less than a tenth larger than those written by
    libpng, which chooses a filter for each row.
    """
    height, _, channels = parts[0].shape
    width, size = sum(part.shape[1] for part in parts), parts[0].itemsize
    color = _COLOR_TYPES[channels]
    head = struct.pack(">IIBBBBB", width, height, 8 * size, color, 0, 0, 0)
    rows = max(1, _STRIP_BYTES // (width * channels * size))
    above = np.zeros(width * channels * size, np.uint8)
    deflate = zlib.compressobj(strategy=zlib.Z_FILTERED)
    with open(path, "wb") as file:
        file.write(_SIGNATURE + _chunk(b"IHDR", head) + chunks)
        for start in range(0, height, rows):
            strip = np.concatenate([p[start : start + rows] for p in parts], axis=1)
            lines = strip.astype(f">u{size}").view(np.uint8).reshape(len(strip), -1)
            filtered = _paeth(lines, above, channels * size)
            above = lines[-1]
            if compressed := deflate.compress(filtered.data):
                file.write(_chunk(b"IDAT", compressed))
        file.write(_chunk(b"IDAT", deflate.flush()) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file: length, kind, content and checksum."""
    check = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def _paeth(lines: np.ndarray, above: np.ndarray, pixel: int) -> np.ndarray:
    """Filters rows of bytes, [rows, bytes], by Paeth (ISO/IEC 15948, clause 9.4)."""
    # Each filtered row has one byte more: it begins with the number of the filter.
    up = np.concatenate([above[np.newaxis], lines[:-1]])
    left, corner = np.zeros_like(lines), np.zeros_like(lines)
    left[:, pixel:], corner[:, pixel:] = lines[:, :-pixel], up[:, :-pixel]
    a, b, c = (part.astype(np.int16) for part in (left, up, corner))
    to_left, to_up, to_corner = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    predicted = np.where(to_up <= to_corner, up, corner)
    is_left = (to_left <= to_up) & (to_left <= to_corner)
    filtered = lines - np.where(is_left, left, predicted)
    return np.insert(filtered, 0, _PAETH, axis=1)
