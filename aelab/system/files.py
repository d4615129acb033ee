"""Writes files and folders so that a reader sees a whole one or none."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence

from aelab.errors import UsageError

# The disk's own errors; others say that a path is no good.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

_TEMPORARY_PREFIX = ".tmp-"
_MAX_NAME = 255  # bytes, of Linux' file systems
_MAX_SUFFIX = 20  # characters


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Says of an OSError that `what` can't be written: a flag with its value.

    Raises:
      UsageError: it can't.
      OSError: the disk is full or fails, which is no fault of the user's.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        raise UsageError(f"{what} can't be written: {error}") from None


def temporary_path(path: str) -> str:
    """The file that is written before it takes the name `path`.

    It has the same suffix. Where its name would be too long, it has a hash of it.
    """
    folder, name = os.path.split(path)
    encoded = os.fsencode(name)
    if len(_TEMPORARY_PREFIX) + len(encoded) > _MAX_NAME:
        suffix = os.path.splitext(name)[1][-_MAX_SUFFIX:]
        name = hashlib.sha256(encoded).hexdigest() + suffix
    return os.path.join(folder, _TEMPORARY_PREFIX + name)


@contextlib.contextmanager
def atomic_write(path: str, content: bytes | None = None) -> Iterator[str]:
    """Gives the name of what to write; syncs it and renames it to `path` after that.

    A file replaces the file that `path` was, a folder an empty folder alone. If writing
    fails, what was written is removed, and what `path` held stays.

    Args:
      path: the file or folder.
      content: what the file must hold when it is read back; None = it is not.

    Raises:
      OSError: it can't be written, or reads back differently; `filename` says which.
    """
    aside = temporary_path(path)
    shutil.rmtree(aside, ignore_errors=True)  # left by a process that was killed
    try:
        yield aside
        for written in _files(aside):
            _sync(written)
        if content is not None:
            _check(aside, content)
        os.replace(aside, path)
        with contextlib.suppress(OSError):  # not every file system can
            _sync(os.path.dirname(path) or ".")
    except OSError as error:
        if error.errno is None:  # h5py and zipfile give a message alone
            raise OSError(f"{path}: {error}") from None
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.remove(aside)


def write_bytes(path: str, content: bytes) -> None:
    """Writes `content` as the file `path`, reads it back, whole or not at all.

    Raises:
      OSError: it can't be written, or what is read back differs; what `path` held
        stays. The message says how many bytes were wanted.
    """
    with (
        reporting_size(path, len(content)),
        atomic_write(path, content) as aside,
        open(aside, "wb") as file,
    ):
        file.write(content)


@contextlib.contextmanager
def reporting_size(path: str, wanted: int) -> Iterator[None]:
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
        if name.startswith(_TEMPORARY_PREFIX):
            os.remove(os.path.join(folder, name))


def _files(path: str) -> list[str]:
    """`path` if it is a file, all files below it if it is a folder."""
    if not os.path.isdir(path):
        return [path]
    return [os.path.join(at, n) for at, _, names in os.walk(path) for n in names]


def _check(path: str, content: bytes) -> None:
    with open(path, "rb") as file:
        if file.read() != content:
            raise OSError(errno.EIO, "what was written reads back differently")


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


def check_output_file(path: str, suffix: str, inputs: Sequence[str] = ()) -> None:
    """Checks that `--output=path` names a file that may be written.

    Args:
      path: the value of the flag.
      suffix: how its name must end, for example `.html`.
      inputs: files that it must not replace.

    Raises:
      UsageError: another ending, a folder, no folder to write into, or an input.
    """
    if not path.endswith(suffix):
        raise UsageError(f"--output={path} must end in {suffix}")
    if os.path.isdir(path):
        raise UsageError(f"--output={path} is a folder; give the name of a file")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"--output={path}: the folder {folder} does not exist")
    for given in inputs:
        both_exist = os.path.exists(path) and os.path.exists(given)
        if both_exist and os.path.samefile(path, given):
            raise UsageError(f"--output={path} would replace the input {given}")
