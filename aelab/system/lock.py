"""Ensures a single writer per folder."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator

from aelab.errors import BusyError, UsageError
from aelab.system.files import writing


@contextlib.contextmanager
def exclusive_lock(path: str, folder: str) -> Iterator[None]:
    """Makes this process the only writer of a folder while the context is active.

    The lock is the kernel's, on an open file (flock). The kernel releases it when the
    process exits, however it exits. On file systems that several hosts mount, it covers
    all hosts if the file system's locks do (NFS on Linux: yes). The lock file `path`
    remains, empty unless the process was killed.

    Raises:
      BusyError: another process has the lock.
      UsageError: the folder can't be locked.
      OSError: the disk is full or fails.
    """
    with writing(folder):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "rb"):  # closes it, which releases the lock
        _take(descriptor, path, folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)


def _take(descriptor: int, path: str, folder: str) -> None:
    """Takes the lock or raises, and writes this process into the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            holder = os.read(descriptor, 1000).decode(errors="replace").strip()
            raise BusyError(
                f"{folder} is being written by {holder or 'another process'}: wait "
                "until it ends, stop it, or give another directory"
            ) from None
        raise UsageError(
            f"{path} can't be locked ({error}), and without a lock two processes could "
            "write one run: give a directory on another file system"
        ) from None
    # Only for the message above; on a full disk the lock holds without it.
    with contextlib.suppress(OSError):
        holder = f"process {os.getpid()} on {socket.gethostname()}\n"
        os.ftruncate(descriptor, 0)
        os.write(descriptor, holder.encode())
