"""One writer a folder."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator

from aelab.errors import UsageError
from aelab.system.files import writing

_BUSY = (errno.EWOULDBLOCK, errno.EACCES)


@contextlib.contextmanager
def exclusive_lock(path: str, folder: str) -> Iterator[None]:
    """Makes this process the only one that may write a folder, while inside.

    The lock is the kernel's, on an open file (flock): it ends with the process,
    whatever that dies of. On file systems that several hosts mount it holds over all
    of them as far as their locks do (NFS on Linux: yes).

    Args:
      path: the lock's file; it stays, empty unless the process was killed.
      folder: what is guarded, for the message.

    Raises:
      UsageError: another process has the lock, or there can be none here.
      OSError: the disk is full or fails.
    """
    with writing(folder):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take(descriptor, path, folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: str, folder: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            holder = os.read(descriptor, 1000).decode(errors="replace").strip()
            raise UsageError(
                f"{folder} is being written by {holder or 'another process'}: wait for "
                "its end, stop it, or give another directory"
            ) from None
        raise UsageError(
            f"{path} can't be locked ({error}), which keeps two processes from writing "
            "one run: give a directory on another file system"
        ) from None
    # Only for the message: on a full disk the lock holds without it.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(
            descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode()
        )
