import errno
import os

import pytest

from aelab.writing import remove_leftovers, write_bytes, written_aside


def test_a_file_is_written_and_nothing_else_is_left(tmp_path):
    write_bytes(str(tmp_path / "file"), b"new")
    write_bytes(str(tmp_path / "file"), b"newer")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"newer"


def test_the_file_is_not_there_before_it_is_whole(tmp_path):
    path = tmp_path / "file.keras"
    path.write_bytes(b"old")
    with written_aside(str(path)) as aside:
        assert aside.endswith("file.keras")
        with open(aside, "wb") as file:
            file.write(b"half")
            file.flush()
            assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"half"


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
        written_aside(str(tmp_path / "file")),
    ):
        raise OSError("unable to write")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "folder").touch()
    with pytest.raises(NotADirectoryError) as error:
        write_bytes(str(tmp_path / "folder" / "file"), b"new")
    assert error.value.filename == str(tmp_path / "folder" / "file")
