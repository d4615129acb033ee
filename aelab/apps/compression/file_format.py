"""The `.aelab` file: a header, then blocks of coded images, each with checksums.

All numbers are little-endian. Header: magic (8 bytes), version (u8), length of the body
(u32), body, CRC-32 of all before it. Body: key of the weights (8 bytes), CRC-32 of the
tables, height, width and channels, number of members, and of each member its kind (u8),
number of images, length of its name, name in UTF-8; numbers without a size given are
LEB128. Block: mark (4 bytes), number of its first image (u32), images (u16), length of
the payload (u32), CRC-32 of the symbols, CRC-32 of all that and the payload, payload.

A block can be found and checked by itself, so one that is damaged costs no other.
"""

import contextlib
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aelab.errors import UsageError

BLOCK_IMAGES = 4096  # at most
MAX_IMAGES = 2**32 - 1

_MAGIC = b"\x89aelab\r\n"
_VERSION = 1
_START = struct.Struct("<8sBI")
_KEYS = struct.Struct("<8sI")
_CRC = struct.Struct("<I")
_MARK = b"\xae\x1a\xb0\x0c"
_BLOCK = struct.Struct("<4sIHII")
_BLOCK_SIZE = _BLOCK.size + _CRC.size
_LEAST_MEMBER = 3  # bytes
_BLOCK_VALUES = 2**24  # of the images of a block, if there is more than one
_MOST_PASSES = 8
_MOST_NAME = 255  # bytes

PICTURE, IDX = 0, 1


class Member(NamedTuple):
    """One input file.

    Attributes:
      kind: `PICTURE` or `IDX`.
      images: how many it holds, 1 for a picture.
      name: of the file that is to be written.
    """

    kind: int
    images: int
    name: str


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
      key: 8 bytes that tell the model's weights from others.
      tables_crc: CRC-32 of the tables of probabilities.
      image_shape: (height, width, channels).
      members: the input files in their order.
    """

    key: bytes
    tables_crc: int
    image_shape: tuple[int, int, int]
    members: Sequence[Member]

    @property
    def images(self) -> int:
        """How many there are in all."""
        return sum(member.images for member in self.members)


class Block(NamedTuple):
    """One block of a file, whose checksum is right.

    Attributes:
      first: number of its first image.
      images: how many it holds.
      symbols_crc: CRC-32 of what it must decode to.
      start, end: where its payload is in the file.
    """

    first: int
    images: int
    symbols_crc: int
    start: int
    end: int


def block_images(image_shape: tuple[int, int, int]) -> int:
    """How many images of this shape are coded together."""
    return max(1, min(BLOCK_IMAGES, _BLOCK_VALUES // math.prod(image_shape)))


def name_fault(name: str) -> str:
    """Why a file can't have this name, "" if it can."""
    if name != os.path.basename(name) or name in ("", ".", "..") or "\0" in name:
        return "it is not the plain name of a file"
    if name.startswith(".tmp-"):
        return "names that begin with .tmp- are those of unfinished files"
    try:
        too_long = len(name.encode()) > _MOST_NAME
    except UnicodeEncodeError:
        return "it is not UTF-8"
    return "it is too long" if too_long else ""


def pack_header(header: Header) -> bytes:
    """The bytes that a file begins with."""
    body = bytearray(_KEYS.pack(header.key, header.tables_crc))
    for number in (*header.image_shape, len(header.members)):
        body += _leb128(number)
    for member in header.members:
        name = member.name.encode()
        body.append(member.kind)
        body += _leb128(member.images) + _leb128(len(name)) + name
    content = _START.pack(_MAGIC, _VERSION, len(body)) + body
    return content + _CRC.pack(zlib.crc32(content))


def pack_block(first: int, images: int, symbols_crc: int, payload: bytes) -> bytes:
    """The bytes of a block."""
    start = _BLOCK.pack(_MARK, first, images, len(payload), symbols_crc)
    crc = zlib.crc32(payload, zlib.crc32(start))
    return start + _CRC.pack(crc) + payload


@contextlib.contextmanager
def opened(path: str) -> Iterator["mmap.mmap | bytes"]:
    """The content of a file, of which no more is in memory than is looked at.

    Raises:
      UsageError: it can't be read.
    """
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:  # which can't be mapped
                yield b""
                return
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {error}") from None
    with content:
        yield content


def read_header(content: "mmap.mmap | bytes", path: str) -> tuple[Header, int]:
    """The header of a file, and where its blocks begin.

    Raises:
      UsageError: the file is none of aelab's, of a later version, cut or damaged. No
        more memory is taken than the file is long.
    """
    if content[: len(_MAGIC)] != _MAGIC:
        raise UsageError(f"{path} is no .aelab file: it begins otherwise")
    if len(content) < _START.size:
        raise UsageError(f"{path} is cut within its header")
    _, version, length = _START.unpack(content[: _START.size])
    if version != _VERSION:
        raise UsageError(
            f"{path} is of version {version}; this aelab reads version {_VERSION}"
        )
    end = _START.size + length
    if len(content) < end + _CRC.size:
        raise UsageError(f"{path} is cut within its header, or that is damaged")
    (crc,) = _CRC.unpack(content[end : end + _CRC.size])
    if zlib.crc32(content[:end]) != crc:
        raise UsageError(f"{path} has a damaged header, without which nothing is known")
    try:
        return _parse_body(content[_START.size : end]), end + _CRC.size
    except (ValueError, IndexError, struct.error) as error:
        raise UsageError(f"{path} has a header that says nothing: {error}") from None


def _parse_body(body: bytes) -> Header:
    key, tables_crc = _KEYS.unpack_from(body)
    numbers, place = [], _KEYS.size
    for _ in range(4):
        number, place = _number(body, place)
        numbers.append(number)
    height, width, channels, count = numbers
    if count * _LEAST_MEMBER > len(body):
        raise ValueError(f"it can't have {count} members")
    members = []
    for _ in range(count):
        kind = body[place]
        images, place = _number(body, place + 1)
        length, place = _number(body, place)
        name, place = body[place : place + length], place + length
        if place > len(body) or kind not in (PICTURE, IDX):
            raise ValueError("a member is not whole")
        members.append(Member(kind, images, name.decode()))
    header = Header(key, tables_crc, (height, width, channels), members)
    if place != len(body) or header.images > MAX_IMAGES:
        raise ValueError("its members do not fit")
    return header


def find_blocks(
    content: "mmap.mmap | bytes", place: int, images: int
) -> Iterator[Block | str]:
    """All blocks from `place` on whose checksums are right, and what is wrong between.

    Args:
      content: of the file.
      place: where its blocks begin.
      images: how many the header says there are.

    Yields:
      Blocks in the order of their images; and texts, each on one damaged part.
    """
    expected = 0
    # What looks like a mark may be any bytes; a file made of marks is given up.
    budget = _MOST_PASSES * len(content)
    while place < len(content):
        block, found = _block_at(content, place, expected, images), place
        while (block is None or not _is_whole(content, block)) and place >= 0:
            budget -= block.end - block.start if block else 0
            place = content.find(_MARK, place + 1) if budget > 0 else -1
            block = _block_at(content, place, expected, images) if place > 0 else None
        if place != found:
            yield f"the bytes from {found} on" + (f" to {place}" if block else "")
        if block is None:
            break
        if block.first > expected:
            yield f"the images from {expected} to {block.first - 1} are missing"
        yield block
        expected, place = block.first + block.images, block.end
    if expected < images:
        yield f"the images from {expected} to {images - 1} are missing"


def _block_at(
    content: "mmap.mmap | bytes", place: int, expected: int, images: int
) -> Block | None:
    """What says at `place` that it is a block, None if nothing does that can be one."""
    if len(content) < place + _BLOCK_SIZE:
        return None
    start = content[place : place + _BLOCK.size]
    mark, first, count, length, symbols_crc = _BLOCK.unpack(start)
    begin = place + _BLOCK_SIZE
    fits = expected <= first and 0 < count <= BLOCK_IMAGES and first + count <= images
    if mark != _MARK or not fits or begin + length > len(content):
        return None
    return Block(first, count, symbols_crc, begin, begin + length)


def _is_whole(content: "mmap.mmap | bytes", block: Block) -> bool:
    """Whether the checksum in front of a block's payload is right."""
    begin = block.start - _CRC.size
    (crc,) = _CRC.unpack(content[begin : block.start])
    start = content[begin - _BLOCK.size : begin]
    return bool(zlib.crc32(content[block.start : block.end], zlib.crc32(start)) == crc)


def _leb128(number: int) -> bytes:
    """A number of at least 0, seven bits a byte, the lowest first."""
    content = bytearray()
    while number >= 0x80:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    content.append(number)
    return bytes(content)


def _number(body: bytes, place: int) -> tuple[int, int]:
    """The LEB128 number at `place`, of 5 bytes at most, and where it ends."""
    number = 0
    for shift in range(0, 35, 7):
        byte = body[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
    raise ValueError("a number is too long")
