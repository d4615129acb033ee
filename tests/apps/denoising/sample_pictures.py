"""Pictures, and picture files written by their specifications."""

import struct
import zlib

import numpy as np

FULL = {"uint8": 255, "uint16": 65535}


def random_picture(*shape, dtype="float32", seed=0):
    """Blots and noise in the full range of the type, [H, W, C]."""
    values = np.random.default_rng(seed).random(shape, np.float32)
    values = (
        values + (np.add.outer(*map(np.arange, shape[:2])) % 50 > 25)[..., None]
    ) / 2
    if dtype == "float32":
        return values
    return np.round(values * FULL[dtype]).astype(dtype)


def png_file(pixels, extra=b"", size=None):
    """An unfiltered PNG file (ISO/IEC 15948), with `extra` chunks before the pixels."""

    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    height, width, channels = pixels.shape
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    width, height = size or (width, height)
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, color, 0, 0, 0)
    big_endian = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def tiff_file(pixels, photometric):
    """An uncompressed little-endian TIFF file of 16 bits per channel (TIFF 6.0)."""
    height, width, channels = pixels.shape
    data = pixels.astype("<u2").tobytes()
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, 16 if channels == 1 else 8),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 16),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    head = struct.pack("<2sHI3HH", b"II", 42, 16 + len(data), 16, 16, 16, 0)
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return head + data + struct.pack("<H", len(entries)) + directory + bytes(4)
