"""Checks on the files that a script is asked to write."""

import os
from collections.abc import Callable, Iterable, Sequence

from aelab.errors import UsageError


def check_outputs(
    paths: Sequence[str],
    overwrite: bool,
    inputs: Iterable[str] = (),
    is_own: Callable[[str], bool] = lambda path: False,
) -> None:
    """Checks that files may be written, before any work.

    An existing file is replaced only with `overwrite`, or if it `is_own`, which means
    that the same command made it. An input is never replaced.

    Raises:
      UsageError: one of `paths` is an input, under any name, or may not be replaced.
    """
    given = {_identity(path): path for path in inputs}
    for path in paths:
        if (identity := _identity(path)) and identity in given:
            raise UsageError(
                f"--output: {path} would replace the input {given[identity]}; give "
                "another name or folder"
            )
    existing = [p for p in paths if os.path.lexists(p) and not is_own(p)]
    if existing and not overwrite:
        more = f" ({len(existing)} of {len(paths)} files do)" if len(paths) > 1 else ""
        raise UsageError(
            f"--output: {existing[0]} exists already{more}: give --overwrite to "
            "replace it, or another --output"
        )


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode, equal for all names of a file; None if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_output_file(
    path: str,
    suffix: str,
    overwrite: bool,
    inputs: Sequence[str] = (),
    is_own: Callable[[str], bool] = lambda path: False,
) -> None:
    """Checks that `--output=path` names a file that may be written.

    Raises:
      UsageError: it does not end in `suffix`, is a folder, the folder to write into
        does not exist, or `check_outputs` raises it.
    """
    if not path.endswith(suffix):
        raise UsageError(f"--output={path} must end in {suffix}")
    if os.path.isdir(path):
        raise UsageError(f"--output={path} is a folder; give the name of a file")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"--output={path}: the folder {folder} does not exist")
    check_outputs([path], overwrite, inputs, is_own)
