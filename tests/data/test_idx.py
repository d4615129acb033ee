import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from conftest import write_idx
from hypothesis import given, settings
from hypothesis import strategies as st

from aelab.data.idx import read_idx
from aelab.errors import UsageError

IMAGES = np.arange(200, 224, dtype=np.uint8).reshape(2, 3, 4)
SUFFIXES = pytest.mark.parametrize("suffix", ["", ".gz"])


def idx(shape, values=b"", magic=None):
    """The bytes of an IDX file."""
    start = bytes([0, 0, 8, len(shape)]) if magic is None else magic
    return start + struct.pack(f">{len(shape)}I", *shape) + values


RAW = idx(IMAGES.shape, IMAGES.tobytes())


def refusal(path, content=None, dimensions=3):
    """The message that refuses a file of `content`."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_idx(str(path), dimensions)
    assert str(path) in str(caught.value)
    return str(caught.value)


@SUFFIXES
@pytest.mark.parametrize("array", [IMAGES, IMAGES.ravel(), IMAGES[:1, :1, :1]])
def test_round_trip(tmp_path, suffix, array):
    path = str(tmp_path / f"images{suffix}")
    write_idx(path, array)
    read = read_idx(path, array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array, strict=True)


def test_highly_compressed_files_are_read(tmp_path):
    zeros = np.zeros((300, 100, 100), np.uint8)
    write_idx(tmp_path / "images.gz", zeros)
    np.testing.assert_array_equal(read_idx(str(tmp_path / "images.gz"), 3), zeros)


@SUFFIXES
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (RAW[:2], "begins with the bytes 0000;"),
        (RAW[:4], "within its header"),
        (RAW[:15], "within its header"),
        (RAW[:16], "cut short"),
        (b"<!DOCTYPE html><p>404", "not an IDX file but a web page"),
        (b"\xef\xbb\xbf\r\n<html><p>Error</html>", "not an IDX file but a web page"),
        (idx(IMAGES.shape, IMAGES.tobytes(), b"\x89PNG"), "89504e47"),
        (idx(IMAGES.shape, IMAGES.tobytes(), b"\0\0\x0d\3"), "begins with 00000803"),
        (idx((24,), IMAGES.tobytes()), "3-dimensional"),
        (idx((0, 3, 4)), "0 x 3 x 4"),
        (idx((2, 0, 4)), "2 x 0 x 4"),
    ],
)
def test_bad_content_is_refused(tmp_path, suffix, raw, message):
    content = gzip.compress(raw) if suffix else raw
    assert message in refusal(tmp_path / f"images{suffix}", content)


@SUFFIXES
def test_labels_with_another_dimension_are_refused(tmp_path, suffix):
    path = tmp_path / f"labels{suffix}"
    write_idx(path, IMAGES)
    assert "1-dimensional" in refusal(path, dimensions=1)


@SUFFIXES
@pytest.mark.parametrize("shape", [(2**30, 2**30, 2**30), (2**15, 2**10, 2**6)])
def test_too_large_a_size_in_the_header_takes_no_memory(tmp_path, suffix, shape):
    raw = idx(shape, bytes(100))
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(raw) if suffix else raw)
    tracemalloc.start()
    try:
        assert "cut short" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


@SUFFIXES
def test_a_file_truncated_anywhere_is_refused(tmp_path, suffix):
    content = gzip.compress(RAW) if suffix else RAW
    for length in range(len(content)):
        path = tmp_path / f"images{suffix}"
        assert str(path) in refusal(path, content[:length])


def test_a_file_truncated_before_compression_is_refused(tmp_path):
    path = tmp_path / "images.gz"
    for length in range(len(RAW)):
        assert str(path) in refusal(path, gzip.compress(RAW[:length]))


def test_a_flipped_bit_in_gzip_is_detected_or_harmless(tmp_path):
    path, content = tmp_path / "images.gz", gzip.compress(RAW, mtime=0)
    refused = 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(read_idx(str(path), 3), IMAGES, strict=True)
        except UsageError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 8 * (len(content) - 10)  # the 10-byte header holds a time


@SUFFIXES
@pytest.mark.parametrize("content", [RAW, gzip.compress(RAW)], ids=["raw", "gzip"])
def test_the_content_determines_whether_a_file_is_gzipped(tmp_path, suffix, content):
    """A server may have unpacked what it sends, or a browser renamed it."""
    path = tmp_path / f"images{suffix}"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_idx(str(path), 3), IMAGES, strict=True)


@pytest.mark.parametrize("rest", [b"\0", b"x", b"bytes" * 50_000, RAW])
@pytest.mark.parametrize("where", ["raw", "before", "after", "member"])
def test_bytes_behind_the_end_are_ignored_with_a_warning(tmp_path, capsys, where, rest):
    path = tmp_path / "images"
    zipped = gzip.compress(RAW)
    whole = {
        "raw": RAW + rest,
        "before": gzip.compress(RAW + rest),
        "after": zipped + (b"x" if rest[:1] == b"\0" else b"") + rest,
        "member": zipped + gzip.compress(rest),
    }
    path.write_bytes(whole[where])
    np.testing.assert_array_equal(read_idx(str(path), 3), IMAGES, strict=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {path} has more bytes than the 2 x 3 x 4 ")


def test_a_wrong_sum_in_gzip_before_other_bytes_is_refused(tmp_path):
    content = bytearray(gzip.compress(RAW) + b"rest")
    content[-12] ^= 1  # of the CRC-32
    assert "CRC" in refusal(tmp_path / "images.gz", content)


@SUFFIXES
def test_folders_and_missing_files_are_refused(tmp_path, suffix):
    assert "No such file" in refusal(tmp_path / f"none{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    assert "directory" in refusal(tmp_path / f"folder{suffix}")


STARTS = [b"", RAW[:4], RAW[:16], RAW, gzip.compress(RAW)]


@settings(max_examples=200, deadline=None, database=None)
@given(
    start=st.sampled_from(STARTS),
    rest=st.binary(max_size=200),
    zipped=st.booleans(),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, start, rest, zipped, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(gzip.compress(start + rest) if zipped else start + rest)
    try:
        images = read_idx(str(path), 3)
    except UsageError as error:
        assert str(path) in str(error)
    else:
        assert images.dtype == np.uint8 and images.ndim == 3 and images.size
