import os
import socket

import pytest
from processes import ready

from aelab.errors import UsageError
from aelab.system import lock
from aelab.system.lock import exclusive_lock

HOLD = """
import sys, time
from aelab.system.lock import exclusive_lock
with exclusive_lock(sys.argv[1], "--run_dir=DIR"):
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_and_the_message_names_the_first(tmp_path):
    path = str(tmp_path / "lock")
    with ready(HOLD, path) as process:
        with pytest.raises(UsageError) as error, exclusive_lock(path, "--run_dir=DIR"):
            pytest.fail("two writers")
        holder = f"process {process.pid} on {socket.gethostname()}"
        assert f"--run_dir=DIR is being written by {holder}" in str(error.value)
        process.kill()
        process.wait()
        with exclusive_lock(path, "--run_dir=DIR"):
            pass


def test_the_lock_is_released_after_an_error(tmp_path):
    path = str(tmp_path / "lock")
    with pytest.raises(KeyError), exclusive_lock(path, ""):
        raise KeyError
    assert os.path.getsize(path) == 0
    with exclusive_lock(path, ""), open(path) as file:
        assert file.read() == f"process {os.getpid()} on {socket.gethostname()}\n"


def test_a_longer_old_name_is_overwritten(tmp_path):
    path = tmp_path / "lock"
    path.write_text("x" * 500)
    with exclusive_lock(str(path), ""):
        assert path.read_text().startswith("process ")
        assert "x" * 100 not in path.read_text()


def test_a_full_disk_does_not_prevent_the_lock(tmp_path, monkeypatch):
    """The name in the file is only for a message."""

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock.os, "write", full)
    with exclusive_lock(str(tmp_path / "lock"), ""):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(UsageError, match="--run_dir=DIR can't be written"),
        exclusive_lock(str(tmp_path / "none" / "lock"), "--run_dir=DIR"),
    ):
        pytest.fail("no folder, no lock")


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with (
        pytest.raises(UsageError, match=r"lock can't be locked .*not supported"),
        exclusive_lock(str(tmp_path / "lock"), "--run_dir=DIR"),
    ):
        pytest.fail("no lock")


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    lock = exclusive_lock(str(tmp_path / "lock"), "--run_dir=x")
    with pytest.raises(UsageError, match=r"--run_dir=x can't be written"), lock:
        pass
    assert victim.read_text() == "precious"
