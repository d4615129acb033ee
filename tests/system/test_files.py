import errno
import io
import os
from pathlib import Path

import pytest

from aelab.errors import UsageError
from aelab.system import files as writing
from aelab.system.files import (
    atomic_write,
    remove_leftovers,
    temporary_path,
    write_bytes,
)


def test_a_file_is_written_and_nothing_else_is_left(tmp_path):
    write_bytes(str(tmp_path / "file"), b"new")
    write_bytes(str(tmp_path / "file"), b"newer")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"newer"


def test_the_file_is_not_there_before_it_is_whole(tmp_path):
    path = tmp_path / "file.keras"
    path.write_bytes(b"old")
    with atomic_write(str(path)) as aside:
        assert aside.endswith("file.keras")
        with open(aside, "wb") as file:
            file.write(b"half")
            file.flush()
            assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"half"


def test_the_content_is_synced_once_and_then_read_back(tmp_path, monkeypatch):
    path, events = tmp_path / "file", []
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: events.append("sync"))

    def open_noted(path, mode):
        events.append(mode)
        return open(path, mode)

    monkeypatch.setattr(writing, "open", open_noted, raising=False)
    write_bytes(str(path), b"new")
    assert events == ["wb", "sync", "rb", "sync"]  # the last one is the folder's


def test_content_that_reads_back_differently_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def open_other(path, mode):
        return io.BytesIO(b"nex") if mode == "rb" else open(path, mode)

    monkeypatch.setattr(writing, "open", open_other, raising=False)
    with pytest.raises(OSError, match="reads back differently") as error:
        write_bytes(str(path), b"new")
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "name",
    [
        "a" * 251 + ".png",
        "a" * 247 + ".png",
        "\u00e4" * 125 + ".jpeg",
        os.fsdecode(b"\xff" * 255),
        "." + "a" * 254,
        "a." + "\u65e5" * 84,
    ],
)
def test_the_longest_names_can_be_written(tmp_path, name):
    path = str(tmp_path / name)
    assert 250 < len(os.fsencode(name)) <= 255
    write_bytes(path, b"new")
    assert os.listdir(tmp_path) == [name]
    suffix = os.path.splitext(name)[1]
    if len(suffix) < 20:
        assert temporary_path(path).endswith(suffix)
    assert temporary_path(path + "x") != temporary_path(path)
    Path(temporary_path(path)).touch()
    remove_leftovers(str(tmp_path))
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_what_was_there_survives_a_failure(tmp_path, monkeypatch, broken):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space left") as error:
        write_bytes(str(path), b"new")
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        write_bytes(str(tmp_path / "none" / "file"), b"new")
    assert error.value.filename == str(tmp_path / "none" / "file")


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    for name in (".tmp-file", "file", "tmp-file"):
        (tmp_path / name).touch()
    remove_leftovers(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "tmp-file"]


def test_a_message_without_a_number_is_kept(tmp_path):
    with (
        pytest.raises(OSError, match=r"file: unable to write$"),
        atomic_write(str(tmp_path / "file")),
    ):
        raise OSError("unable to write")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "folder").touch()
    with pytest.raises(NotADirectoryError) as error:
        write_bytes(str(tmp_path / "folder" / "file"), b"new")
    assert error.value.filename == str(tmp_path / "folder" / "file")


def test_a_folder_is_written_like_a_file(tmp_path):
    """Nothing of it is there before it is whole; an empty folder gives way."""
    path = tmp_path / "folder"
    path.mkdir()
    for left_over in (False, True):
        with atomic_write(str(path)) as aside:
            os.makedirs(os.path.join(aside, "sub"))
            for name in ("file", "sub/file"):
                with open(os.path.join(aside, name), "w") as file:
                    file.write("new")
            assert list(path.iterdir()) == []
        found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
        assert found == [
            *("folder", "folder/file", "folder/sub", "folder/sub/file"),
        ]
        if not left_over:  # as of a process that was killed
            os.rename(path, tmp_path / ".tmp-folder")
            (tmp_path / ".tmp-folder" / "old").touch()
            path.mkdir()


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_folder_that_fails_leaves_nothing(tmp_path, monkeypatch, broken):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    path = tmp_path / "folder"
    with (
        pytest.raises(OSError, match="No space left") as error,
        atomic_write(str(path)) as aside,
    ):
        os.mkdir(aside)
        with open(os.path.join(aside, "file"), "w") as file:
            file.write("new")
    assert error.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    with (
        pytest.raises(OSError, match="not empty"),
        atomic_write(str(tmp_path / "folder")) as aside,
    ):
        os.mkdir(aside)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "mine"]


def test_of_what_can_not_be_written_the_flag_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as error, writing.writing("--output=x"):
        os.makedirs(tmp_path / "file" / "folder")
    assert str(error.value).startswith("--output=x can't be written: ")
    assert "Not a directory" in str(error.value)


@pytest.mark.parametrize("number", writing.DISK_ERRORS)
def test_a_failing_disk_is_not_the_users_fault(number):
    with pytest.raises(OSError) as error, writing.writing("--output=x"):
        raise OSError(number, "the disk")
    assert error.value.errno == number
