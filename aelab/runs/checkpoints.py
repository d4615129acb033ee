"""Checkpoints: the state of a run at one step, as a NumPy archive.

For example `checkpoints/latest/step-00000120.npz`. Writes are atomic. A read checks the
checksum of every array, and the sizes before it allocates memory. Pickles are neither
written nor read.
"""

import io
import math
import os
import re
import zipfile
import zlib
from typing import Literal

import numpy as np

from aelab.config import FORMAT, check_format
from aelab.errors import TrainingError, UsageError
from aelab.system.files import names_in, read_bytes, remove_leftovers, write_bytes

# Raised by `zipfile` and NumPy for damaged files; RuntimeError for flipped bits of the
# index that mean encryption or another compression; and for a folder in their place.
_DAMAGED = (
    *(TypeError, ValueError, EOFError, RuntimeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, IsADirectoryError),
)

# Bytes before a member's name and content: the zip header, and the ZIP64 field that
# `np.savez` always adds.
_MEMBER_HEADER = 30 + 20
# `np.lib.format` evaluates the header as Python source. This expression accepts only
# the form that `np.savez` writes.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<>|][biuf]\d{1,2})', "
    rb"'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,19},|\d{1,19}(?:, \d{1,19}){1,31})\), \} *\n",
    re.DOTALL,
)

_NAME = re.compile(r"step-(\d{8,19})\.npz")
_DAMAGED_PREFIX = "damaged-"


def path_of(folder: str, step: int) -> str:
    """The checkpoint file of a step."""
    return os.path.join(folder, f"step-{step:08d}.npz")


def all_of(folder: str) -> list[str]:
    """Checkpoint files in `folder`, highest step first.

    Raises:
      OSError: the folder can't be read.
    """
    matches = filter(None, map(_NAME.fullmatch, names_in(folder)))
    steps = [int(match[1]) for match in matches]
    return [path_of(folder, step) for step in sorted(steps, reverse=True)]


def newest(folder: str) -> str | None:
    """The checkpoint of the highest step in `folder`; None if there is none."""
    return next(iter(all_of(folder)), None)


def last_checkpoint_sentence(folder: str) -> str:
    """A sentence on the checkpoint that a failed run leaves in `folder`."""
    path = newest(folder)
    return f"The last good checkpoint is {path}" if path else "Nothing was saved yet"


def save(folder: str, step: int, arrays: dict[str, np.ndarray], keep: int = 1) -> str:
    """Writes the checkpoint of `step`, and removes all but the newest `keep`.

    Returns:
      The file's path.

    Raises:
      TrainingError: an array of the model or the optimizer is not finite. Nothing is
        written, and earlier checkpoints remain.
      OSError: the file can't be written. Earlier checkpoints remain.
    """
    for name, array in arrays.items():
        is_metric = name.startswith(("progress/", "totals/"))
        if not is_metric and not np.isfinite(array).all():
            raise TrainingError(f"{name} is not finite")
    content = io.BytesIO()
    np.savez(content, format=np.int64(FORMAT), **arrays)  # type: ignore[arg-type]
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
      OSError: the file can't be read or does not exist (any more). It may be good.
      UsageError: the file was read, and is damaged or not a checkpoint.
      FormatError: it has a later format.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(path))) as archive:
            members = archive.infolist()
            # The index has no checksum. A damaged one may lose members.
            sizes = (
                len(member.filename.encode()) + member.file_size + _MEMBER_HEADER
                for member in members
            )
            if not members or sum(sizes) != archive.start_dir:
                raise ValueError("its index does not match its content")
            arrays = dict(_member(archive, member) for member in members)
            if len(arrays) < len(members):
                raise ValueError("two of its arrays have the same name")
            version = arrays.pop("format", np.array(1))
            if version.shape or version.dtype.kind not in "iu":
                raise ValueError("its format is not an integer")
    except _DAMAGED as error:
        raise UsageError(f"{path} is not a readable checkpoint: {error}") from None
    check_format(int(version), path)
    return arrays


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[str, np.ndarray]:
    """Name and array of a member. `zipfile` verifies its checksum."""
    name, suffix = os.path.splitext(member.filename)
    is_stored = member.compress_type == zipfile.ZIP_STORED
    if not is_stored or member.compress_size != member.file_size or suffix != ".npy":
        raise ValueError(f"{member.filename!r} is not stored like a NumPy array")
    content = archive.read(member)
    header = _HEADER.match(content)
    if not header or header.end() != 10 + int.from_bytes(content[8:10], "little"):
        raise ValueError(f"{name} does not have NumPy's header for numbers")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(size) for size in header[3].split(b",") if size)
    if math.prod(shape) * dtype.itemsize != len(content) - header.end():
        raise ValueError(f"{name} does not have the size of its shape, {shape}")
    values = np.frombuffer(content, dtype, offset=header.end())
    order: Literal["F", "C"] = "F" if header[2] == b"True" else "C"
    return name, values.reshape(shape, order=order).copy("K")


def load_newest(folder: str) -> tuple[str, dict[str, np.ndarray]] | None:
    """Path and arrays of the newest checkpoint; None if there is none.

    Raises:
      UsageError: it is damaged or not a checkpoint.
      OSError: it can't be read.
    """
    while path := newest(folder):
        try:
            return path, load(path)
        except FileNotFoundError:
            if newest(folder) == path:
                raise
            # A concurrent run has replaced it; look again.
    return None


def rename_damaged(path: str) -> str:
    """Renames a damaged checkpoint so that it is ignored; returns the new path."""
    folder, name = os.path.split(path)
    renamed = os.path.join(folder, _DAMAGED_PREFIX + name)
    os.replace(path, renamed)
    return renamed
