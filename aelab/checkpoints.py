"""Checkpoints: the state of a run as one NumPy archive a step.

`checkpoints/latest/step-00000120.npz`. A file is written aside, synced and renamed, so
a reader sees a whole one or none. No pickle is written, and none is read.
"""

import os
import re
import zipfile
import zlib

import numpy as np

from aelab.errors import TrainingError, UsageError
from aelab.writing import remove_leftovers, written_aside

# What `zipfile` and NumPy raise for damaged files; RuntimeError for bits of the index
# that would ask for a password or another compression.
_DAMAGED = (
    *(OSError, ValueError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)

_NAME = re.compile(r"step-(\d{8,})\.npz")


def path_of(folder: str, step: int) -> str:
    """The file of a step."""
    return os.path.join(folder, f"step-{step:08d}.npz")


def newest(folder: str) -> str | None:
    """The file of the highest step in `folder`, None if there is none."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    steps = [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]
    return path_of(folder, max(steps)) if steps else None


def what_is_safe(folder: str) -> str:
    """A sentence on what a failed run leaves behind in `folder`."""
    path = newest(folder)
    return f"The last good checkpoint is {path}" if path else "Nothing was saved yet"


def save(folder: str, step: int, arrays: dict[str, np.ndarray]) -> str:
    """Writes `arrays` as the checkpoint of `step`, then removes the others.

    Returns:
      The file's path.

    Raises:
      TrainingError: an array of the model or the optimizer is not finite. Nothing is
        written then, and the checkpoint before it stays.
      OSError: the file can't be written; the checkpoint before it stays.
    """
    for name, array in arrays.items():
        if not name.startswith("progress/") and not np.isfinite(array).all():
            raise TrainingError(f"{name} is not finite at step {step}")
    os.makedirs(folder, exist_ok=True)
    path = path_of(folder, step)
    with written_aside(path) as aside, open(aside, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    remove_leftovers(folder)
    for name in os.listdir(folder):
        if _NAME.fullmatch(name) and name != os.path.basename(path):
            os.remove(os.path.join(folder, name))
    return path


def load(path: str) -> dict[str, np.ndarray]:
    """Reads a checkpoint.

    Raises:
      UsageError: the file can't be read, is damaged or is no checkpoint.
    """
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            return {name: archive[name] for name in archive.files}
    except _DAMAGED as error:
        raise UsageError(f"{path} is not a readable checkpoint: {error}") from None
