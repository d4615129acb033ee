"""Writes files so that a reader sees a whole one or none."""

import contextlib
import os
from collections.abc import Iterator

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
        descriptor = os.open(aside, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
    except OSError as error:
        if error.errno is None:  # h5py and zipfile give a message alone
            raise OSError(f"{path}: {error}") from None
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        with contextlib.suppress(OSError):
            os.remove(aside)


def write_bytes(path: str, content: bytes) -> None:
    """Writes `content` as the file `path`, whole or not at all.

    Raises:
      OSError: it can't be written; what `path` held stays.
    """
    with written_aside(path) as aside, open(aside, "wb") as file:
        file.write(content)  # the inner context, the file, is left first


def remove_leftovers(folder: str) -> None:
    """Removes what a process that was killed left unfinished in `folder`."""
    for name in os.listdir(folder):
        if name.startswith(_ASIDE):
            os.remove(os.path.join(folder, name))
