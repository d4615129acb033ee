"""Atomic file and folder writes."""

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from aelab.errors import UsageError

# Errors of the disk itself; any other errno means that the path is bad.
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

# What the disk of a network answers while it is away, and the seconds to wait for it.
_OUTAGES = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
_PAUSES = (0.2, 1.0, 3.0)

_TEMPORARY_PREFIX = ".tmp-"
_ANY = re.compile(re.escape(_TEMPORARY_PREFIX))
_TEMPORARY_NAME = re.compile(_ANY.pattern + "[0-9a-f]{16}-")
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


def _temporary_path(path: str) -> str:
    """A new name next to `path` with the same suffix, for a file to be renamed to it.

    A hash replaces a name that would be too long.
    """
    folder, name = os.path.split(path)
    prefix = f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}-"
    encoded = os.fsencode(name)
    if len(prefix) + len(encoded) > _MAX_NAME:
        suffix = os.path.splitext(name)[1][-_MAX_SUFFIX:]
        name = hashlib.sha256(encoded).hexdigest() + suffix
    return os.path.join(folder, prefix + name)


@contextlib.contextmanager
def atomic_write(
    path: str, content: bytes | None = None, is_folder: bool = False
) -> Iterator[str]:
    """Yields a new empty file or folder; on success fsyncs and renames it to `path`.

    A file replaces an existing file and has its mode; a folder replaces only an empty
    folder. If writing fails, the temporary file or folder is removed, and `path` is
    unchanged. Several processes may write one path: the last one to finish wins.

    Raises:
      OSError: `path` can't be written, or `content` is given and the file reads back
        differently; `filename` is `path`.
    """
    temporary = _temporary_path(path)
    try:
        with _locked_while_writing(temporary, is_folder):
            yield temporary
            below = [file for file in Path(temporary).rglob("*") if file.is_file()]
            for file in below if is_folder else [Path(temporary)]:
                _sync(file)
            if content is not None:
                with open(temporary, "rb") as written:
                    if written.read() != content:
                        raise OSError(errno.EIO, "the content reads back differently")
            if not is_folder and os.path.isfile(path):
                os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
            os.replace(temporary, path)
        with contextlib.suppress(OSError):  # not every file system can sync a folder
            _sync(os.path.dirname(path) or ".")
    except OSError as error:
        if error.errno is None:  # errors of h5py and zipfile have only a message
            raise OSError(f"{path}: {error}") from None
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        _remove(temporary)


@contextlib.contextmanager
def _locked_while_writing(temporary: str, is_folder: bool) -> Iterator[None]:
    """Creates a file or folder, and locks it until it is written.

    The kernel releases the lock when the process ends, so `remove_leftovers` can tell
    leftovers from what is being written.
    """
    _remove_leftovers_once(os.path.dirname(os.path.abspath(temporary)))
    descriptor = _create_locked(temporary, is_folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _create_locked(temporary: str, is_folder: bool) -> int:
    """The descriptor of a new file or folder, which is locked.

    Until it is, another process may take it for a leftover and remove it.
    """
    flags = os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT | os.O_EXCL
    while True:
        try:
            if is_folder:
                os.mkdir(temporary)
            descriptor = os.open(temporary, flags | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            if not is_folder or not os.path.isdir(os.path.dirname(temporary) or "."):
                raise
            continue
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(temporary):
            return descriptor
        os.close(descriptor)


def _remove(path: str) -> None:
    """Removes a file or a folder if it exists."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.remove(path)


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
    """The names in a folder, or none if the folder does not exist.

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


def remove_leftovers(folder: str, names: re.Pattern[str] = _ANY) -> None:
    """Removes temporary files and folders that killed processes left in `folder`.

    What a living process is writing is locked, and stays.
    """
    for name in filter(names.match, os.listdir(folder)):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # it is locked, a link, or gone by now
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(descriptor)


@functools.cache
def _remove_leftovers_once(folder: str) -> None:
    """The same for names of `_temporary_path`, the first time in this process."""
    with contextlib.suppress(OSError):
        remove_leftovers(folder, _TEMPORARY_NAME)


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
