"""Writes files so that a reader sees a whole one or none."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator

# The disk's own errors; others say that a path is no good.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

_ASIDE = ".tmp-"


@contextlib.contextmanager
def written_aside(path: str) -> Iterator[str]:
    """Gives the name of a file to write; syncs it and renames it to `path` after that.

    If writing fails, what was written is removed, and what `path` held stays.

    Raises:
      OSError: the file can't be written; `filename` says which.
    """
    folder, name = os.path.split(path)
    aside = os.path.join(folder, _ASIDE + name)
    try:
        yield aside
        _sync(aside)
        os.replace(aside, path)
        with contextlib.suppress(OSError):  # not every file system can
            _sync(folder or ".")
    except OSError as error:
        if error.errno is None:  # h5py and zipfile give a message alone
            raise OSError(f"{path}: {error}") from None
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        with contextlib.suppress(OSError):
            os.remove(aside)


def write_bytes(path: str, content: bytes) -> None:
    """Writes `content` as the file `path`, reads it back, whole or not at all.

    Raises:
      OSError: it can't be written, or what is read back differs; what `path` held
        stays. The message says how many bytes were wanted.
    """
    with telling_size(path, len(content)), written_aside(path) as aside:
        with open(aside, "wb") as file:
            file.write(content)
        _sync(aside)
        with open(aside, "rb") as file:
            if file.read() != content:
                raise OSError(errno.EIO, "what was written reads back differently")


@contextlib.contextmanager
def telling_size(path: str, wanted: int) -> Iterator[None]:
    """Adds to an error of the file system which file and how many bytes it is about."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error} ({wanted:,} bytes were wanted"
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(os.path.dirname(path) or ".").free
            reason += f", {free:,} are free"
        raise OSError(error.errno or errno.EIO, f"{reason})", path) from None


def remove_leftovers(folder: str) -> None:
    """Removes what a process that was killed left unfinished in `folder`."""
    for name in os.listdir(folder):
        if name.startswith(_ASIDE):
            os.remove(os.path.join(folder, name))


def _sync(path: str) -> None:
    """Returns when the content of a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        # What is read next comes from the disk, as far as the system goes along.
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
