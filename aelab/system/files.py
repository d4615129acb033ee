"""Atomic file and folder writes."""

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from aelab.errors import UsageError

# Errors of the disk itself; any other errno means that the path is bad.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

# What the disk of a network answers while it is away, and the seconds to wait for it.
_OUTAGES = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
_PAUSES = (0.2, 1.0, 3.0)

_TEMPORARY_PREFIX = ".tmp-"
_MAX_NAME = 255  # bytes, on Linux file systems
_MAX_SUFFIX = 20  # characters


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Re-raises OSErrors as UsageErrors that name `what`, a flag with its value.

    Raises:
      UsageError: `what` can't be written.
      OSError: the disk is full or fails, which is not the user's mistake.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        raise UsageError(f"{what} can't be written: {error}") from None


def temporary_path(path: str) -> str:
    """The temporary file that is written first and then renamed to `path`.

    It has the same suffix. A hash replaces a name that would be too long.
    """
    folder, name = os.path.split(path)
    encoded = os.fsencode(name)
    if len(_TEMPORARY_PREFIX) + len(encoded) > _MAX_NAME:
        suffix = os.path.splitext(name)[1][-_MAX_SUFFIX:]
        name = hashlib.sha256(encoded).hexdigest() + suffix
    return os.path.join(folder, _TEMPORARY_PREFIX + name)


@contextlib.contextmanager
def atomic_write(path: str, content: bytes | None = None) -> Iterator[str]:
    """Yields a temporary path; on success fsyncs it and renames it to `path`.

    A file replaces an existing file; a folder replaces only an empty folder. If writing
    fails, the temporary file or folder is removed, and `path` is unchanged.

    Raises:
      OSError: `path` can't be written, or `content` is given and the file reads back
        differently; `filename` is `path`.
    """
    temporary = temporary_path(path)
    shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
    try:
        yield temporary
        below = [file for file in Path(temporary).rglob("*") if file.is_file()]
        for file in below if os.path.isdir(temporary) else [Path(temporary)]:
            _sync(file)
        if content is not None:
            with open(temporary, "rb") as written:
                if written.read() != content:
                    raise OSError(errno.EIO, "the content reads back differently")
        os.replace(temporary, path)
        with contextlib.suppress(OSError):  # not every file system can sync a folder
            _sync(os.path.dirname(path) or ".")
    except OSError as error:
        if error.errno is None:  # errors of h5py and zipfile have only a message
            raise OSError(f"{path}: {error}") from None
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.remove(temporary)


def read_bytes(path: str) -> bytes:
    """Reads a whole file. After an outage of the disk it tries again, a few times.

    Raises:
      OSError: the file can't be read; `filename` is `path`.
    """
    for pause in (*_PAUSES, None):
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            if error.errno not in _OUTAGES or pause is None:
                raise OSError(error.errno, error.strerror, path) from None
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def names_in(folder: str) -> list[str]:
    """The names in a folder; empty if there is no folder.

    Raises:
      OSError: the folder can't be read.
    """
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def write_bytes(path: str, content: bytes) -> None:
    """Writes the file `path` atomically and reads it back.

    Raises:
      OSError: the file can't be written, or reads back differently. `path` is then
        unchanged. The message has the number of bytes wanted.
    """
    with (
        reporting_size(path, len(content)),
        atomic_write(path, content) as temporary,
        open(temporary, "wb") as file,
    ):
        file.write(content)


@contextlib.contextmanager
def reporting_size(path: str, wanted: int) -> Iterator[None]:
    """Adds the file and the number of bytes wanted to a file system error."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error} ({wanted:,} bytes were wanted"
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(os.path.dirname(path) or ".").free
            reason += f", {free:,} are free"
        raise OSError(error.errno or errno.EIO, f"{reason})", path) from None


def remove_leftovers(folder: str) -> None:
    """Removes temporary files that a killed process left in `folder`."""
    for name in os.listdir(folder):
        if name.startswith(_TEMPORARY_PREFIX):
            os.remove(os.path.join(folder, name))


def _sync(path: str | Path) -> None:
    """Blocks until a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        # The next read then comes from the disk, if the system complies.
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def check_output_file(path: str, suffix: str, inputs: Sequence[str] = ()) -> None:
    """Checks that `--output=path` names a file that may be written.

    Raises:
      UsageError: it does not end in `suffix`, is a folder or one of the `inputs`, or
        the folder to write into does not exist.
    """
    if not path.endswith(suffix):
        raise UsageError(f"--output={path} must end in {suffix}")
    if os.path.isdir(path):
        raise UsageError(f"--output={path} is a folder; give the name of a file")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"--output={path}: the folder {folder} does not exist")
    for given in filter(os.path.exists, inputs):
        if os.path.exists(path) and os.path.samefile(path, given):
            raise UsageError(f"--output={path} would replace the input {given}")
