"""The header of an `.aelab` file; `file_blocks.py` has the blocks that follow it.

All numbers are little-endian. Numbers without a size are LEB128.

Magic number (8 bytes), version (u8), length of the body (u32), body, CRC-32 of
everything before it. Body: key of the weights (8 bytes), CRC-32 of the tables, height,
width, channels, number of members. For each member: kind (u8), number of images, length
of its name, name in UTF-8, with other bytes as they are.

Since version 2, a copy of body and CRC-32 and the length of the body (u32) follow the
blocks.
"""

import contextlib
import io
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from aelab.errors import UsageError

MAX_IMAGES = 2**32 - 1

_MAGIC = b"\x89aelab\r\n"
_VERSION = 2
_START = struct.Struct("<8sBI")
_KEYS = struct.Struct("<8sI")
_CRC = struct.Struct("<I")
_LENGTH = struct.Struct("<I")
_MIN_MEMBER_BYTES = 3
_MAX_NAME_BYTES = 255

PICTURE, IDX = 0, 1

Content: TypeAlias = "mmap.mmap | bytes"


class Member(NamedTuple):
    """An input file, and the name of the file that decompressing will write."""

    kind: int  # `PICTURE`, which has one image, or `IDX`
    images: int
    name: str


class Header(NamedTuple):
    """The header of a file."""

    key: bytes  # 8 bytes, which identify the model's weights
    tables_crc: int  # CRC-32, which identifies the tables of probabilities
    image_shape: tuple[int, int, int]  # (height, width, channels)
    members: Sequence[Member]

    @property
    def images(self) -> int:
        """The number of images of all members."""
        return sum(member.images for member in self.members)


class Layout(NamedTuple):
    """The parts of a file."""

    header: Header
    start: int  # of the blocks
    end: int  # of the blocks
    damage: list[str]  # the damaged one of the two headers, in words


def name_problem(name: str) -> str:
    """The reason why `name` is not acceptable as a file name; "" if it is."""
    if name != os.path.basename(name) or name in ("", ".", "..") or "\0" in name:
        return "it is not a plain file name"
    if name.startswith(".tmp-"):
        return "names that begin with .tmp- are reserved for unfinished files"
    try:
        too_long = len(name.encode(errors="surrogateescape")) > _MAX_NAME_BYTES
    except UnicodeEncodeError:
        return "it is not UTF-8"
    return "it is too long" if too_long else ""


def pack_header(header: Header) -> bytes:
    """The bytes of a header."""
    body = bytearray(_KEYS.pack(header.key, header.tables_crc))
    for number in (*header.image_shape, len(header.members)):
        body += _leb128(number)
    for member in header.members:
        name = member.name.encode(errors="surrogateescape")
        body.append(member.kind)
        body += _leb128(member.images) + _leb128(len(name)) + name
    content = _START.pack(_MAGIC, _VERSION, len(body)) + body
    return content + _CRC.pack(zlib.crc32(content))


def pack_copy(header: bytes) -> bytes:
    """The end of a file that begins with the bytes `header`."""
    copy = header[_START.size :]
    return copy + _LENGTH.pack(len(copy) - _CRC.size)


@contextlib.contextmanager
def map_file(path: str) -> Iterator[Content]:
    """Maps a file into memory; only the parts that are accessed are read.

    Raises:
      UsageError: the file can't be read.
    """
    try:
        content: mmap.mmap | contextlib.nullcontext[bytes]
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            else:  # an empty file can't be mapped
                content = contextlib.nullcontext(b"")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {error}") from None
    with content as mapped:
        yield mapped


def read_header(content: Content, path: str) -> Layout:
    """Reads the header of a file, or its copy if the header is damaged.

    Raises:
      UsageError: the file is not an `.aelab` file of a known version, or both headers
        are damaged.
    """
    try:
        header, version, start = _unpack_header(content)
    except ValueError as error:
        if layout := _read_copy(content):
            return layout
        raise UsageError(f"{path} {error}") from None
    if version == 1:
        return Layout(header, start, len(content), [])
    copy = pack_copy(content[:start])
    if start + len(copy) <= len(content) and content[-len(copy) :] == copy:
        return Layout(header, start, len(content) - len(copy), [])
    return Layout(header, start, len(content), ["the copy of the header"])


def _read_copy(content: Content) -> Layout | None:
    """The layout of a file with a damaged header; None if the copy is damaged, too."""
    stop = len(content) - _LENGTH.size
    if stop < 0:
        return None
    (length,) = _LENGTH.unpack(content[stop:])
    end = max(0, stop - _CRC.size - length)
    start = _START.pack(_MAGIC, _VERSION, length) + content[end:stop]
    try:
        return Layout(_unpack_header(start)[0], len(start), end, ["the header"])
    except ValueError:
        return None


def _unpack_header(content: Content) -> tuple[Header, int, int]:
    """The header that `content` begins with, the version, and the header's length.

    Raises ValueError if it is damaged; the message continues the file's name.
    """
    if content[: len(_MAGIC)] != _MAGIC:
        raise ValueError("is not an .aelab file (wrong magic number)")
    if len(content) < _START.size:
        raise ValueError("is truncated within its header")
    _, version, length = _START.unpack(content[: _START.size])
    if not 1 <= version <= _VERSION:
        raise ValueError(
            f"has version {version}; this release reads versions up to {_VERSION}"
        )
    end = _START.size + length
    if len(content) < end + _CRC.size:
        raise ValueError("is truncated within its header, or it is damaged")
    (crc,) = _CRC.unpack(content[end : end + _CRC.size])
    if zlib.crc32(content[:end]) != crc:
        raise ValueError("has a damaged header and cannot be read")
    try:
        return _parse_body(content[_START.size : end]), version, end + _CRC.size
    except (ValueError, struct.error) as error:
        raise ValueError(f"has an invalid header: {error}") from None


def _parse_body(body: bytes) -> Header:
    stream = io.BytesIO(body)
    key, tables_crc = _KEYS.unpack(stream.read(_KEYS.size))
    height, width, channels, count = (_read_leb128(stream) for _ in range(4))
    if count * _MIN_MEMBER_BYTES > len(body):
        raise ValueError(f"it is too short for {count} members")
    members = []
    for _ in range(count):
        (kind,) = stream.read(1)
        images, length = _read_leb128(stream), _read_leb128(stream)
        name = stream.read(length)
        if len(name) < length or kind not in (PICTURE, IDX):
            raise ValueError("a member is truncated or of unknown kind")
        if kind == PICTURE and images != 1:
            raise ValueError(f"a picture with {images} images")
        if kind == IDX and channels > 1:
            raise ValueError(f"an IDX file with {channels} channels")
        members.append(Member(kind, images, name.decode(errors="surrogateescape")))
    header = Header(key, tables_crc, (height, width, channels), members)
    if stream.read() or header.images > MAX_IMAGES or not all(header.image_shape):
        raise ValueError("its length, image shape or number of images is wrong")
    return header


def _leb128(number: int) -> bytes:
    """LEB128 of a number of at least 0: seven bits per byte, the lowest first."""
    content = bytearray()
    while number >= 0x80:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    content.append(number)
    return bytes(content)


def _read_leb128(stream: io.BytesIO) -> int:
    """Reads a LEB128 number of at most 5 bytes."""
    number = 0
    for index in range(5):
        (byte,) = stream.read(1)
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number
    raise ValueError("a number is too long")
