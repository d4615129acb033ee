"""The blocks of an `.aelab` file, which follow its header.

All numbers are little-endian. A block has: marker (4 bytes), number of its first image
(u32), number of images (u16), length of the payload (u32), CRC-32 of the symbols,
CRC-32 of the block without this field, payload.

A block can be found and checked by itself, so damage to one does not affect the others.
"""

import functools
import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from aelab.apps.compression.file_format import Content, Layout

BLOCK_IMAGES = 4096  # at most

_BLOCK_VALUES = 2**24  # pixel values in a block of more than one image, at most
_MAX_PASSES = 8  # reads of each byte while searching for blocks, on average
_MARKER = b"\xae\x1a\xb0\x0c"
_BLOCK = struct.Struct("<4sIHII")
_CRC = struct.Struct("<I")
_BLOCK_SIZE = _BLOCK.size + _CRC.size


class Block(NamedTuple):
    """One block of a file; its payload is from `start` to `end`."""

    first: int  # number of its first image
    images: int  # number of its images
    symbols_crc: int  # CRC-32 of the symbols that it must decode to
    start: int
    end: int


def block_images(image_shape: tuple[int, int, int]) -> int:
    """The number of images of this shape in a full block."""
    return max(1, min(BLOCK_IMAGES, _BLOCK_VALUES // math.prod(image_shape)))


def pack_block(first: int, images: int, symbols_crc: int, payload: bytes) -> bytes:
    """The bytes of a block."""
    start = _BLOCK.pack(_MARKER, first, images, len(payload), symbols_crc)
    crc = zlib.crc32(payload, zlib.crc32(start))
    return start + _CRC.pack(crc) + payload


def most_images(layout: Layout) -> int:
    """The most images that the blocks of a file can hold, by the file's length."""
    blocks = (layout.end - layout.start) // _BLOCK_SIZE
    return blocks * block_images(layout.header.image_shape)


def find_blocks(content: Content, layout: Layout) -> Iterator[Block | str]:
    """Finds all blocks with correct checksums, and describes the gaps between them.

    Yields blocks in the order of their images, and a text for each damaged part.
    """
    yield from layout.damage
    expected, images, place = 0, layout.header.images, layout.start
    size = block_images(layout.header.image_shape)
    block_at = functools.partial(_block_at, content, layout.end, images, size)
    # A marker may also occur by chance. The budget bounds the work, so that a file full
    # of markers cannot stall us.
    budget = _MAX_PASSES * len(content)
    while place < layout.end:
        block, start = block_at(place, expected), place
        while (block is None or not _is_intact(content, block)) and place >= 0:
            budget -= block.end - block.start if block else 0
            place = content.find(_MARKER, place + 1, layout.end) if budget > 0 else -1
            block = block_at(place, expected) if place > 0 else None
        if place != start:
            end = f"to {place}" if block else "to the end"
            yield f"the bytes from {start} {end}"
        if block is None:
            break
        if block.first > expected:
            yield f"the images from {expected} to {block.first - 1} are missing"
        yield block
        expected, place = block.first + block.images, block.end
    if expected < images:
        yield f"the images from {expected} to {images - 1} are missing"


def _block_at(
    content: Content, stop: int, images: int, size: int, place: int, expected: int
) -> Block | None:
    """The block whose header is at `place`; None without a plausible header.

    Blocks end at `stop`; a block has at most `size` of the `images`, and none before
    `expected`.
    """
    if stop < place + _BLOCK_SIZE:
        return None
    start = content[place : place + _BLOCK.size]
    marker, first, count, length, symbols_crc = _BLOCK.unpack(start)
    begin = place + _BLOCK_SIZE
    fits = expected <= first and 0 < count <= min(size, images - first)
    if marker != _MARKER or not fits or begin + length > stop:
        return None
    return Block(first, count, symbols_crc, begin, begin + length)


def _is_intact(content: Content, block: Block) -> bool:
    """True if the checksum of a block is correct."""
    begin = block.start - _CRC.size
    (crc,) = _CRC.unpack(content[begin : block.start])
    start = content[begin - _BLOCK.size : begin]
    return bool(zlib.crc32(content[block.start : block.end], zlib.crc32(start)) == crc)
