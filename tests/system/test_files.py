import errno
import io
import os
from pathlib import Path

import pytest
from processes import ready

from aelab.errors import UsageError
from aelab.system import files
from aelab.system.files import (
    atomic_write,
    remove_leftovers,
    write_bytes,
    writing,
)


def test_a_file_is_written_and_no_temporary_file_remains(tmp_path):
    write_bytes(str(tmp_path / "file"), b"new")
    write_bytes(str(tmp_path / "file"), b"newer")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"newer"


def test_a_file_is_replaced_only_when_it_is_complete(tmp_path):
    path = tmp_path / "file.keras"
    path.write_bytes(b"old")
    with atomic_write(str(path)) as temporary:
        assert temporary.endswith("file.keras")
        with open(temporary, "wb") as file:
            file.write(b"half")
            file.flush()
            assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"half"


def test_the_content_is_synced_once_and_then_read_back(tmp_path, monkeypatch):
    path, events = tmp_path / "file", []
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: events.append("sync"))

    def open_recorded(path, mode):
        events.append(mode)
        return open(path, mode)

    monkeypatch.setattr(files, "open", open_recorded, raising=False)
    write_bytes(str(path), b"new")
    assert events == ["wb", "sync", "rb", "sync"]  # the last one is the folder's


def test_content_that_reads_back_differently_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def open_other(path, mode):
        return io.BytesIO(b"nex") if mode == "rb" else open(path, mode)

    monkeypatch.setattr(files, "open", open_other, raising=False)
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
    with atomic_write(path) as temporary:
        assert len(suffix) >= 20 or temporary.endswith(suffix)
        assert len(os.fsencode(os.path.basename(temporary))) <= 255
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_the_old_file_survives_a_failure(tmp_path, monkeypatch, broken):
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


def test_only_leftovers_are_removed(tmp_path):
    for name in (".tmp-file", "file", "tmp-file"):
        (tmp_path / name).touch()
    remove_leftovers(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "tmp-file"]


def test_a_message_without_errno_is_preserved(tmp_path):
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
    """It appears only when it is complete, and replaces an empty folder."""
    path = tmp_path / "folder"
    path.mkdir()
    with atomic_write(str(path), is_folder=True) as temporary:
        os.makedirs(os.path.join(temporary, "sub"))
        for name in ("file", "sub/file"):
            with open(os.path.join(temporary, name), "w") as file:
                file.write("new")
        assert list(path.iterdir()) == []
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert names == ["folder", "folder/file", "folder/sub", "folder/sub/file"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_folder_that_fails_leaves_no_files(tmp_path, monkeypatch, broken):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    path = tmp_path / "folder"
    with (
        pytest.raises(OSError, match="No space left") as error,
        atomic_write(str(path), is_folder=True) as temporary,
        open(os.path.join(temporary, "file"), "w") as file,
    ):
        file.write("new")
    assert error.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    with (
        pytest.raises(OSError, match="not empty"),
        atomic_write(str(tmp_path / "folder"), is_folder=True),
    ):
        pass
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "mine"]


def test_the_flag_of_an_unwritable_path_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as error, writing("--output=x"):
        os.makedirs(tmp_path / "file" / "folder")
    assert str(error.value).startswith("--output=x can't be written: ")
    assert "Not a directory" in str(error.value)


@pytest.mark.parametrize("number", files.DISK_ERRORS)
def test_an_error_of_the_disk_stays_an_oserror(number):
    with pytest.raises(OSError) as error, writing("--output=x"):
        raise OSError(number, "the disk")
    assert error.value.errno == number


def test_two_writers_of_one_path_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file"
    with atomic_write(str(path)) as one, atomic_write(str(path)) as other:
        Path(one).write_text("one")
        Path(other).write_text("other")
        remove_leftovers(str(tmp_path))  # as a third process would
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    (tmp_path / f".tmp-{'0' * 16}-file").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_bytes(str(tmp_path / "file"), b"new")
    assert victim.read_text() == "precious"


def test_a_replaced_file_keeps_its_mode_and_a_new_one_has_the_umasks(tmp_path):
    path, new = tmp_path / "file", tmp_path / "new"
    path.touch(0o640)
    path.chmod(0o640)
    before = os.umask(0o027)
    try:
        for each in (path, new):
            write_bytes(str(each), b"new")
    finally:
        os.umask(before)
    assert [oct(p.stat().st_mode & 0o777) for p in (path, new)] == ["0o640", "0o640"]


def test_leftovers_of_a_killed_process_are_removed_and_of_a_living_one_not(tmp_path):
    code = (
        "import sys, time\n"
        "from aelab.system.files import atomic_write\n"
        "with atomic_write(sys.argv[1] + '/a'):\n"
        "    with atomic_write(sys.argv[1] + '/b', is_folder=True):\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
    )
    with ready(code, str(tmp_path)) as process:
        names = {p.name for p in tmp_path.iterdir()}
        assert len(names) == 2
        remove_leftovers(str(tmp_path))
        assert {p.name for p in tmp_path.iterdir()} == names
        process.kill()
        process.wait()
    (tmp_path / ".tmp-of-another-program").touch()
    write_bytes(str(tmp_path / "c"), b"new")
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [".tmp-of-another-program", "c"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_is_removed_before_it_is_locked_is_created_again(
    tmp_path, monkeypatch, is_folder
):
    """Another process that starts to write just then takes it for a leftover."""
    lock = files.fcntl.flock

    def flock(descriptor, operation):
        monkeypatch.setattr("fcntl.flock", lock)
        remove_leftovers(str(tmp_path))
        lock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", flock)
    with atomic_write(str(tmp_path / "a"), is_folder=is_folder) as temporary:
        assert os.path.isdir(temporary) == is_folder
        remove_leftovers(str(tmp_path))
        assert os.path.exists(temporary)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_reading_is_tried_again_a_few_times(tmp_path, failing_reads):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    failing_reads(path, errno.EIO, times=3)
    assert files.read_bytes(str(path)) == b"content"
    failing_reads(path, errno.EIO, times=4)
    with pytest.raises(OSError, match=f"Input/output error: '{path}'"):
        files.read_bytes(str(path))
    failing_reads(path, errno.EACCES, times=1)
    with pytest.raises(PermissionError):
        files.read_bytes(str(path))


def test_a_folder_that_is_missing_has_no_names(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert files.names_in(str(tmp_path)) == ["file"]
    assert files.names_in(str(tmp_path / "none")) == []
    assert files.names_in(str(tmp_path / "file")) == []
