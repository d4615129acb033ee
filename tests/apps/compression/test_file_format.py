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
    pack_copy,
    pack_header,
    read_header,
)
from aelab.errors import UsageError

NAMES = st.text(st.characters(codec="utf-8"), max_size=20) | st.binary(max_size=20).map(
    lambda name: name.decode("utf-8", "surrogateescape")
)
MEMBERS = st.lists(
    st.one_of(
        st.builds(Member, st.just(PICTURE), st.just(1), NAMES),
        st.builds(Member, st.just(IDX), st.integers(0, 2**20), NAMES),
    ),
    max_size=4,
)
HEADER = Header(b"the key!", 7, (28, 28, 1), [Member(IDX, 6, "six")])
START = pack_header(HEADER)
BLOCKS = b"".join(
    pack_block(first, 2, first, bytes(range(first, 40))) for first in (0, 2, 4)
)
CONTENT = START + BLOCKS + pack_copy(START)


def read(content):
    """The header and blocks in some bytes, or the message that refuses them."""
    try:
        layout = read_header(content, "x.aelab")
        parts = list(find_blocks(content, layout))
    except UsageError as error:
        assert "x.aelab" in str(error)
        return str(error)
    damage = [part for part in parts if isinstance(part, str)]
    return damage[0] if damage else (layout.header, parts)


@given(st.binary(min_size=8, max_size=8), st.integers(0, 2**32 - 1), MEMBERS)
def test_any_header_comes_back(key, crc, members):
    header = Header(key, crc, (28, 300, 1), members)
    start = pack_header(header)
    content = start + pack_copy(start)
    assert read_header(content, "x") == (header, len(start), len(start), [])


def test_a_mapped_file_reads_like_its_bytes(tmp_path):
    for name, content in {"full": CONTENT, "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        with map_file(str(tmp_path / name)) as mapped:
            assert mapped[:] == content
            assert read(mapped) == read(content)
    with (
        pytest.raises(UsageError, match=r"^x is not"),
        map_file(tmp_path / "empty") as m,
    ):
        read_header(m, "x")
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


@pytest.mark.parametrize(
    "place", [*range(len(START)), *range(len(START + BLOCKS), len(CONTENT))]
)
def test_one_flipped_bit_of_a_header_loses_no_block(place):
    (_, blocks) = read(CONTENT)
    for bit in range(8):
        damaged = bytearray(CONTENT)
        damaged[place] ^= 1 << bit
        layout = read_header(bytes(damaged), "x.aelab")
        assert layout.header == HEADER and len(layout.damage) == 1
        parts = find_blocks(bytes(damaged), layout)
        assert [part for part in parts if not isinstance(part, str)] == blocks


def with_version(version, start=START):
    """The header with another version and the correct checksum."""
    content = start[:8] + bytes([version]) + start[9 : -file_format._CRC.size]
    return content + file_format._CRC.pack(file_format.zlib.crc32(content))


def test_version_1_has_no_copy_of_the_header():
    assert read(with_version(1) + BLOCKS) == read(CONTENT)
    damaged = with_version(1, START[:20] + b"?" + START[21:])
    assert "damaged" in read(damaged[:-1] + b"?" + BLOCKS)


@pytest.mark.parametrize("version", [0, 3, 255])
def test_another_version_is_refused_with_both_numbers(version):
    start = with_version(version)
    expected = f"x.aelab has version {version}; this release reads versions up to 2"
    assert read(start + BLOCKS + pack_copy(start)) == expected


@pytest.mark.parametrize("shape", [(0, 28, 1), (28, 0, 1), (28, 28, 0)])
def test_images_without_pixels_are_refused(shape):
    start = pack_header(HEADER._replace(image_shape=shape))
    assert "image shape" in read(start + pack_copy(start))


@pytest.mark.parametrize("images", [0, 2])
def test_a_picture_with_another_number_of_images_is_refused(images):
    start = pack_header(HEADER._replace(members=[Member(PICTURE, images, "x.png")]))
    assert f"a picture with {images} images" in read(start + pack_copy(start))


def test_an_idx_file_of_color_images_is_refused():
    start = pack_header(HEADER._replace(image_shape=(28, 28, 3)))
    assert "an IDX file with 3 channels" in read(start + pack_copy(start))


def test_a_header_that_promises_too_much_takes_no_memory():
    body = b"k" * 8 + b"t" * 4 + b"\x1c\x1c\x01" + b"\xff\xff\xff\xff\x0f"
    for size in (len(body), 2**32 - 1):
        start = file_format._START.pack(b"\x89aelab\r\n", 1, size) + body
        content = start + file_format._CRC.pack(file_format.zlib.crc32(start))
        tracemalloc.start()
        assert isinstance(read(content), str)
        assert tracemalloc.get_traced_memory()[1] < 2**21
        tracemalloc.stop()
