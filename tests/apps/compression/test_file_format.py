import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelab.apps.compression import file_format
from aelab.apps.compression.file_blocks import find_blocks, pack_block
from aelab.apps.compression.file_format import (
    IDX,
    PICTURE,
    Header,
    Member,
    map_file,
    pack_header,
    read_header,
)
from aelab.errors import UsageError

MEMBERS = st.lists(
    st.builds(
        Member,
        st.sampled_from([PICTURE, IDX]),
        st.integers(0, 2**20),
        st.text(st.characters(codec="utf-8"), max_size=20)
        | st.binary(max_size=20).map(
            lambda name: name.decode("utf-8", "surrogateescape")
        ),
    ),
    max_size=4,
)
HEADER = Header(b"the key!", 7, (28, 28, 1), [Member(IDX, 6, "six")])
CONTENT = pack_header(HEADER) + b"".join(
    pack_block(first, 2, first, bytes(range(first, 40))) for first in (0, 2, 4)
)


def read(content):
    """The header and blocks in some bytes, or the message that refuses them."""
    try:
        header, place = read_header(content, "x.aelab")
        parts = list(find_blocks(content, place, header.images))
    except UsageError as error:
        assert "x.aelab" in str(error)
        return str(error)
    damage = [part for part in parts if isinstance(part, str)]
    return damage[0] if damage else (header, parts)


@given(st.binary(min_size=8, max_size=8), st.integers(0, 2**32 - 1), MEMBERS)
def test_any_header_comes_back(key, crc, members):
    header = Header(key, crc, (28, 300, 3), members)
    content = pack_header(header)
    assert read_header(content, "x") == (header, len(content))


def test_a_mapped_file_reads_like_its_bytes(tmp_path):
    for name, content in {"full": CONTENT, "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        with map_file(str(tmp_path / name)) as mapped:
            assert mapped[:] == content
            assert read(mapped) == read(content)
    with pytest.raises(UsageError, match=r"none can't be read.*No such file"):
        map_file(str(tmp_path / "none")).__enter__()


def test_a_flipped_bit_is_found_anywhere():
    assert isinstance(read(CONTENT), tuple)
    for bit in range(8 * len(CONTENT)):
        damaged = bytearray(CONTENT)
        damaged[bit // 8] ^= 1 << bit % 8
        assert isinstance(read(bytes(damaged)), str), bit


def test_a_truncated_or_extended_file_is_found():
    for length in range(len(CONTENT)):
        assert isinstance(read(CONTENT[:length]), str), length
    assert isinstance(read(CONTENT + b"\0"), str)


@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_refused(rest, has_start):
    assert isinstance(read((CONTENT[:40] if has_start else b"") + rest), str)


def test_a_later_version_is_refused_with_both_numbers():
    content = bytearray(CONTENT)
    content[8] = 2
    expected = "x.aelab has version 2; this release reads version 1"
    assert read(bytes(content)) == expected


def test_a_header_that_promises_too_much_takes_no_memory():
    body = b"k" * 8 + b"t" * 4 + b"\x1c\x1c\x01" + b"\xff\xff\xff\xff\x0f"
    for size in (len(body), 2**32 - 1):
        start = file_format._START.pack(b"\x89aelab\r\n", 1, size) + body
        content = start + file_format._CRC.pack(file_format.zlib.crc32(start))
        tracemalloc.start()
        assert isinstance(read(content), str)
        assert tracemalloc.get_traced_memory()[1] < 2**21
        tracemalloc.stop()
