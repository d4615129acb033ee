"""Checkpoints: the state of a run as one NumPy archive a step.

`checkpoints/latest/step-00000120.npz`. A file is written aside, read back, synced and
renamed, so a reader sees a whole one or none. It is checked when it is read, by the
checksum of every array, and its sizes before memory is taken. No pickle is written,
and none is read.
"""

import errno
import io
import math
import os
import re
import zipfile
import zlib
from typing import Literal

import numpy as np

from aelab.errors import TrainingError, UsageError
from aelab.system.files import remove_leftovers, write_bytes

# What `zipfile` and NumPy raise for damaged files; RuntimeError for bits of the index
# that would ask for a password or another compression.
_DAMAGED = (
    TypeError,
    *(OSError, ValueError, EOFError, RuntimeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error),
)

# Of the OSErrors: a bad seek, a bad sector, a folder in its place.
_OF_DAMAGE = (None, errno.EINVAL, errno.EIO, errno.EISDIR)

# Bytes before a member's name and content: zip's own header, and a ZIP64 field, which
# `np.savez` always asks for.
_LOCAL = 30 + 20
# `np.lib.format` evaluates the header as Python source; this takes the one form of it
# that it writes.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<>|][biuf]\d{1,2})', "
    rb"'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,19},|\d{1,19}(?:, \d{1,19}){1,31})\), \} *\n",
    re.DOTALL,
)

_NAME = re.compile(r"step-(\d{8,19})\.npz")
_DAMAGED_PREFIX = "damaged-"


def path_of(folder: str, step: int) -> str:
    """The file of a step."""
    return os.path.join(folder, f"step-{step:08d}.npz")


def all_of(folder: str) -> list[str]:
    """The files in `folder` that count, that of the highest step first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    steps = [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]
    return [path_of(folder, step) for step in sorted(steps, reverse=True)]


def newest(folder: str) -> str | None:
    """The file of the highest step in `folder`, None if there is none."""
    return next(iter(all_of(folder)), None)


def last_checkpoint_sentence(folder: str) -> str:
    """A sentence on what a failed run leaves behind in `folder`."""
    path = newest(folder)
    return f"The last good checkpoint is {path}" if path else "Nothing was saved yet"


def save(folder: str, step: int, arrays: dict[str, np.ndarray], keep: int = 1) -> str:
    """Writes `arrays` as the checkpoint of `step`, and keeps the newest `keep`.

    Returns:
      The file's path.

    Raises:
      TrainingError: an array of the model or the optimizer is not finite. Nothing is
        written then, and the checkpoints before it stay.
      OSError: the file can't be written; the checkpoints before it stay.
    """
    for name, array in arrays.items():
        is_figure = name.startswith(("progress/", "totals/"))
        if not is_figure and not np.isfinite(array).all():
            raise TrainingError(f"{name} is not finite at step {step}")
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    path = path_of(folder, step)
    os.makedirs(folder, exist_ok=True)
    remove_leftovers(folder)
    write_bytes(path, content.getvalue())
    for old in [other for other in all_of(folder) if other != path][max(keep - 1, 0) :]:
        os.remove(old)
    return path


def load(path: str) -> dict[str, np.ndarray]:
    """Reads a checkpoint.

    Raises:
      OSError: the file can't be reached, or is not there (any more).
      UsageError: the file can't be read, is damaged or is no checkpoint.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            # The index has no checksum. A damaged one may lose members.
            sizes = (len(m.filename.encode()) + m.file_size + _LOCAL for m in members)
            if not members or sum(sizes) != archive.start_dir:
                raise ValueError("its index does not list what it holds")
            arrays = dict(_member(archive, member) for member in members)
            if len(arrays) < len(members):
                raise ValueError("two of its arrays have one name")
            return arrays
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno not in _OF_DAMAGE:
            raise  # the file may be good: no rights, a server that is away, ...
        raise UsageError(f"{path} is not a readable checkpoint: {error}") from None


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[str, np.ndarray]:
    """Name and array of one member, whose checksum `zipfile` compares."""
    name, suffix = os.path.splitext(member.filename)
    is_stored = member.compress_type == zipfile.ZIP_STORED
    if not is_stored or member.compress_size != member.file_size or suffix != ".npy":
        raise ValueError(f"{member.filename!r} is not an array as NumPy stores it")
    content = archive.read(member)
    header = _HEADER.match(content)
    if not header or header.end() != 10 + int.from_bytes(content[8:10], "little"):
        raise ValueError(f"{name} has no header as NumPy writes it for numbers")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(size) for size in header[3].split(b",") if size)
    if math.prod(shape) * dtype.itemsize != len(content) - header.end():
        raise ValueError(f"{name} is said to be of shape {shape}, which does not fit")
    values = np.frombuffer(content, dtype, offset=header.end())
    order: Literal["F", "C"] = "F" if header[2] == b"True" else "C"
    return name, values.reshape(shape, order=order).copy("K")


def load_newest(folder: str) -> tuple[str, dict[str, np.ndarray]] | None:
    """Path and arrays of the newest checkpoint, None if there is none.

    Raises:
      UsageError: it can't be read.
    """
    while path := newest(folder):
        try:
            return path, load(path)
        except FileNotFoundError:
            if newest(folder) == path:
                raise
            # A run that is still training has put another in its place.
    return None


def rename_damaged(path: str) -> str:
    """Renames a damaged checkpoint, so that it counts no more; returns its new path."""
    folder, name = os.path.split(path)
    aside = os.path.join(folder, _DAMAGED_PREFIX + name)
    os.replace(path, aside)
    return aside
