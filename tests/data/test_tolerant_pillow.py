import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aelab.data.image_files import failure_reason, opened

COLOR = np.random.default_rng(0).integers(0, 256, (23, 31, 3), np.uint8)


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return str(path)


def pixels(path):
    with opened(str(path)) as picture:
        return np.asarray(picture)


def png_with(path, kind, content, crc=None):
    """Writes COLOR as a PNG file with one more chunk before the pixels."""
    start = Path(save(path, COLOR)).read_bytes()
    crc = zlib.crc32(kind + content) if crc is None else crc
    chunk = struct.pack(">I4s", len(content), kind) + content + struct.pack(">I", crc)
    path.write_bytes(start[:33] + chunk + start[33:])
    return str(path)


LARGE = zlib.compress(bytes(2**21))


@pytest.mark.parametrize(
    ("kind", "content", "crc"),
    [
        (b"iCCP", b"a\0\0" + LARGE, None),
        (b"zTXt", b"a\0\0" + LARGE, None),
        (b"iTXt", b"a\0\1\0\0\0" + LARGE, None),
        (b"zTXt", b"a\0\7unknown method", None),
        (b"iCCP", b"no end of the name", None),
        (b"gAMA", b"x", None),
        (b"tEXt", b"a\0wrong checksum", 0),
    ],
)
def test_large_or_damaged_metadata_of_a_png_file_is_ignored(
    tmp_path, kind, content, crc
):
    path = png_with(tmp_path / "a.png", kind, content, crc)
    np.testing.assert_array_equal(pixels(path), COLOR)


def test_damaged_chunks_of_pixels_are_refused(tmp_path):
    path = png_with(tmp_path / "a.png", b"tRNS", b"wrong checksum", 0)
    with pytest.raises(Exception) as caught:
        pixels(path)
    assert failure_reason(caught.value)


def test_a_damaged_list_of_previews_is_ignored(tmp_path):
    path = tmp_path / "a.jpg"
    content = Path(save(path, COLOR)).read_bytes()
    block = b"MPF\0II*\0\x08\0\0\0\1\0\1\xb0\4\0\1\0\0\0\2\0\0\0\0\0\0\0"
    marker = b"\xff\xe2" + struct.pack(">H", len(block) + 2) + block
    expected = pixels(path)
    path.write_bytes(content[:2] + marker + content[2:])
    np.testing.assert_array_equal(pixels(path), expected)


def jpeg_with(path, marker, content):
    """Writes COLOR as a JPEG file with one more segment before the others."""
    start = Path(save(path, COLOR)).read_bytes()
    segment = b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content
    path.write_bytes(start[:2] + segment + start[2:])
    return str(path)


@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xE0, b"JFIF"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"ICC_PROFILE\0\1"),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
        (0xEE, b"Adobe"),
    ],
)
def test_a_cut_segment_of_metadata_of_a_jpeg_file_is_ignored(tmp_path, marker, content):
    expected = pixels(save(tmp_path / "plain.jpg", COLOR))
    path = jpeg_with(tmp_path / "a.jpg", marker, content)
    np.testing.assert_array_equal(pixels(path), expected)
