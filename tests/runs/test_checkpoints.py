import errno
import io
import os
import pickle
import stat
from pathlib import Path

import numpy as np
import pytest

from aelab.errors import TrainingError, UsageError
from aelab.runs import checkpoints
from aelab.system import files

FLOATS = [np.float16, np.float32, np.float64]
INTEGERS = [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64]
STATE = {
    "step": np.asarray(7, np.int64),
    "model/layer/kernel": np.array([[1.5, -0.0], [3.25, 1e-40]], np.float32),
}


def assert_same(arrays, expected):
    """Equal bit for bit, in name, type, shape and value."""
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        loaded = arrays[name]
        assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape), name
        assert loaded.tobytes() == array.tobytes(), name


def assert_refused(path):
    with pytest.raises(UsageError) as error:
        checkpoints.load(str(path))
    assert str(path) in str(error.value)


def extremes(dtype):
    if dtype in FLOATS:
        info = np.finfo(dtype)
        numbers = [0.0, -0.0, info.smallest_subnormal, info.min, info.max, 1 / 3]
        return np.array(numbers, dtype)
    return np.array([np.iinfo(dtype).min, 0, 1, np.iinfo(dtype).max], dtype)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_round_trip_bit_for_bit(tmp_path, dtype):
    values = extremes(dtype)
    arrays = {
        "model/conv1/kernel": values.reshape(2, -1),
        "optimizer/adam/momentum:0": np.asfortranarray(values.reshape(-1, 2)),
        "strided": np.repeat(values, 2)[::2],
        "scalar": values[-1:].reshape(()),
        "none": values[:0].reshape(0, 3),
        "flag": np.array([True, False]),
    }
    path = checkpoints.save(str(tmp_path / "new" / "latest"), 3, arrays)
    assert_same(checkpoints.load(path), arrays)


@pytest.mark.parametrize("name", ["progress/best_loss", "totals/gradient_norm"])
def test_a_metric_may_be_infinite(tmp_path, name):
    """A sum over many finite steps may be infinite."""
    arrays = STATE | {name: np.asarray(np.inf)}
    assert_same(checkpoints.load(checkpoints.save(str(tmp_path), 0, arrays)), arrays)


def test_names_of_files(tmp_path):
    path = checkpoints.save(str(tmp_path), 120, STATE)
    assert path == str(tmp_path / "step-00000120.npz")
    assert path == checkpoints.path_of(str(tmp_path), 120)
    assert os.listdir(tmp_path) == ["step-00000120.npz"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], None),
        (["step-00000002.npz", "step-00000010.npz"], "step-00000010.npz"),
        (["step-99999999.npz", "step-100000000.npz"], "step-100000000.npz"),
        (["step-00000002.npz", "step-00000009.npz.tmp"], "step-00000002.npz"),
        (["step-00000009.npz.tmp", "step-9.npz", "step-00000009.npzx"], None),
    ],
)
def test_newest(tmp_path, monkeypatch, names, expected):
    path = str(tmp_path / expected) if expected else None
    for order in (names, names[::-1]):  # the order of a folder is arbitrary
        monkeypatch.setattr(checkpoints.os, "listdir", lambda folder, o=order: o)
        assert checkpoints.newest(str(tmp_path)) == path


def test_a_missing_folder_has_no_newest_checkpoint(tmp_path):
    assert checkpoints.newest(str(tmp_path / "none")) is None


@pytest.mark.parametrize("first", [3, 7, 12])
def test_one_checkpoint_remains_and_leftovers_are_removed(tmp_path, first):
    checkpoints.save(str(tmp_path), first, {"old": np.ones(2)})
    leftovers = [".tmp-step-00000007.npz", ".tmp-step-00000099.npz"]
    for name in ("notes.txt", *leftovers):
        (tmp_path / name).write_text("half")
    path = checkpoints.save(str(tmp_path), 7, STATE)
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "step-00000007.npz"]
    assert_same(checkpoints.load(path), STATE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["model/kernel", "optimizer/momentum", "loss_scale/x"])
def test_arrays_that_are_not_finite_are_refused(tmp_path, name, value):
    old = checkpoints.save(str(tmp_path), 7, STATE)
    bad = STATE | {name: np.array([1, value, 1], np.float32)}
    with pytest.raises(TrainingError, match=f"{name} is not finite$"):
        checkpoints.save(str(tmp_path), 9, bad)
    assert os.listdir(tmp_path) == [os.path.basename(old)]
    assert_same(checkpoints.load(old), STATE)


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("step", [7, 9])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch, function, step):
    old = checkpoints.save(str(tmp_path), 7, STATE)

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(str(tmp_path), step, {"new": np.ones(1)})
    monkeypatch.undo()
    assert checkpoints.newest(str(tmp_path)) == old
    assert_same(checkpoints.load(old), STATE)
    checkpoints.save(str(tmp_path), step, STATE)
    assert os.listdir(tmp_path) == [f"step-{step:08d}.npz"]


def test_a_file_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace

    def record_sync(descriptor):
        sync(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            calls.append(("fsync of the folder", os.listdir(tmp_path)))
        else:
            calls.append(("fsync", status.st_size))

    def record_replace(source, target):
        calls.append(("replace", os.path.getsize(source)))
        replace(source, target)

    monkeypatch.setattr(checkpoints.os, "fsync", record_sync)
    monkeypatch.setattr(checkpoints.os, "replace", record_replace)
    path = checkpoints.save(str(tmp_path), 1, STATE)
    size = os.path.getsize(path)
    assert calls == [
        ("fsync", size),
        ("replace", size),
        ("fsync of the folder", [os.path.basename(path)]),
    ]


@pytest.fixture
def load_bytes(tmp_path, monkeypatch):
    """Loads bytes as the checkpoint `damaged.npz`, which is opened once, for speed."""
    path = tmp_path / "damaged.npz"
    with open(path, "w+b", buffering=0) as file:

        def open_again(name, mode):
            if name != str(path):
                return open(name, mode)
            file.seek(0)
            return open(os.dup(file.fileno()), mode)

        def load(content):
            file.seek(0)
            file.write(content)
            file.truncate()
            return checkpoints.load(str(path))

        monkeypatch.setattr(files, "open", open_again, raising=False)
        yield load


def test_a_file_cut_anywhere_is_refused(tmp_path, load_bytes):
    whole = Path(checkpoints.save(str(tmp_path), 7, STATE)).read_bytes()
    for length in range(len(whole)):
        with pytest.raises(UsageError, match=r"damaged\.npz"):
            load_bytes(whole[:length])


@pytest.mark.parametrize("mask", [0x01, 0x02, 0x04, 0x10, 0x80, 0xFF])
def test_a_flipped_byte_is_refused_or_harmless(tmp_path, load_bytes, mask):
    whole = Path(checkpoints.save(str(tmp_path), 7, STATE)).read_bytes()
    refused = 0
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= mask
        try:
            arrays = load_bytes(content)
        except UsageError as error:
            assert "damaged.npz" in str(error)
            refused += 1
        except BaseException as error:
            error.add_note(f"byte {position} of {len(whole)} flipped by {mask:#x}")
            raise
        else:
            # For example a date in the archive's index, which has no checksum.
            assert_same(arrays, STATE)
    assert refused > len(whole) // 2


def save_format(path, version):
    with open(path, "wb") as file:
        np.savez(file, format=version, **STATE)


def test_the_format_is_saved(tmp_path):
    with np.load(checkpoints.save(str(tmp_path), 7, STATE)) as arrays:
        assert (arrays["format"].dtype, arrays["format"].shape) == (np.int64, ())
        assert arrays["format"] == 2


@pytest.mark.parametrize("version", [None, 1, 2])
def test_earlier_formats_are_read(tmp_path, version):
    path = tmp_path / "step-00000001.npz"
    if version is None:
        with open(path, "wb") as file:
            np.savez(file, **STATE)
    else:
        save_format(path, np.int64(version))
    assert_same(checkpoints.load(str(path)), STATE)


def test_a_later_format_is_refused(tmp_path):
    path = tmp_path / "step-00000001.npz"
    save_format(path, np.int64(3))
    message = r"step-00000001\.npz has format 3, .* reads formats up to 2:"
    with pytest.raises(UsageError, match=message):
        checkpoints.load(str(path))


@pytest.mark.parametrize("version", [2.0, [1, 2], [2], True])
def test_a_format_that_is_not_an_integer_is_refused(tmp_path, version):
    path = tmp_path / "step-00000001.npz"
    save_format(path, version)
    assert_refused(path)


class Trap:
    """Creates the folder `path` when it is unpickled."""

    def __init__(self, path):
        self._path = str(path)

    def __reduce__(self):
        return os.mkdir, (self._path,)


@pytest.mark.parametrize("kind", ["npz", "npy", "pickle"])
def test_nothing_is_unpickled(tmp_path, kind):
    sprung, path = tmp_path / "sprung", tmp_path / "step-00000001.npz"
    objects = np.array([Trap(sprung)], dtype=object)
    with open(path, "wb") as file:
        if kind == "npz":
            np.savez(file, kernel=objects)
        elif kind == "npy":
            np.save(file, objects)
        else:
            pickle.dump(objects, file)
    assert_refused(path)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(objects))
    assert sprung.exists()  # the trap works


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY", b"PK\x05\x06", None])
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "step-00000001.npz"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert_refused(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_file_that_cannot_be_read_is_not_reported_as_damaged(
    tmp_path, failing_reads, number
):
    path = checkpoints.save(str(tmp_path), 7, STATE)
    failing_reads(path, number)
    with pytest.raises(OSError, match=path) as error:
        checkpoints.load(path)
    assert error.value.errno == number


def test_a_file_is_read_again_after_a_short_outage(tmp_path, failing_reads):
    path = checkpoints.save(str(tmp_path), 7, STATE)
    failing_reads(path, errno.EIO, times=2)
    assert_same(checkpoints.load(path), STATE)


def test_a_folder_that_cannot_be_read_is_not_taken_for_empty(tmp_path, monkeypatch):
    checkpoints.save(str(tmp_path), 7, STATE)

    def fail(folder):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "listdir", fail)
    monkeypatch.setattr(os.path, "isdir", lambda folder: False)
    with pytest.raises(OSError, match="Input/output error"):
        checkpoints.newest(str(tmp_path))


def test_a_bare_array_is_refused(tmp_path):
    path = tmp_path / "step-00000001.npz"
    with open(path, "wb") as file:
        np.save(file, np.ones(3))
    assert_refused(path)


def test_a_missing_file_is_not_reported_as_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoints.load(str(tmp_path / "step-00000001.npz"))


def test_several_checkpoints_are_listed_newest_first(tmp_path):
    for step in (0, 5, 10, 15):
        path = checkpoints.save(str(tmp_path), step, STATE, keep=3)
    expected = [checkpoints.path_of(str(tmp_path), step) for step in (15, 10, 5)]
    assert checkpoints.all_of(str(tmp_path)) == expected
    assert path == expected[0]
    assert sorted(os.listdir(tmp_path)) == sorted(map(os.path.basename, expected))


def test_a_renamed_damaged_checkpoint_is_ignored(tmp_path):
    for step in (1, 2):
        checkpoints.save(str(tmp_path), step, STATE, keep=2)
    renamed = checkpoints.rename_damaged(checkpoints.path_of(str(tmp_path), 2))
    assert os.path.exists(renamed)
    assert checkpoints.newest(str(tmp_path)) == checkpoints.path_of(str(tmp_path), 1)


def test_a_reader_takes_the_next_checkpoint_if_one_is_replaced(tmp_path, monkeypatch):
    checkpoints.save(str(tmp_path), 1, STATE)
    load = checkpoints.load

    def remove_then_load(path):
        monkeypatch.setattr(checkpoints, "load", load)
        checkpoints.save(str(tmp_path), 2, STATE)
        return load(path)

    monkeypatch.setattr(checkpoints, "load", remove_then_load)
    path, arrays = checkpoints.load_newest(str(tmp_path))
    assert path == checkpoints.path_of(str(tmp_path), 2)
    assert_same(arrays, STATE)


def test_a_dangling_link_is_an_error(tmp_path):
    (tmp_path / "step-00000007.npz").symlink_to(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        checkpoints.load_newest(str(tmp_path))


def test_a_file_that_reads_back_differently_is_not_renamed(tmp_path, monkeypatch):
    """A faulty disk does not store what is written."""
    checkpoints.save(str(tmp_path), 1, STATE)

    class Forgetful(io.FileIO):
        def write(self, content):
            return super().write(content[:-1] + b"x")

    def forget(path, mode):
        return Forgetful(path, mode) if mode == "wb" else open(path, mode)

    monkeypatch.setattr(files, "open", forget, raising=False)
    with pytest.raises(OSError, match="reads back differently"):
        checkpoints.save(str(tmp_path), 2, STATE)
    assert os.listdir(tmp_path) == ["step-00000001.npz"]
