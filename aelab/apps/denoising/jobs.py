"""Which picture file becomes which, checked before anything is written."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aelab.apps.denoising.files import SUFFIXES
from aelab.errors import UsageError
from aelab.system.console import warn
from aelab.system.files import temporary_path

# Pictures of which a user may think that they are denoised.
_OTHER_SUFFIXES = (".avif", ".gif", ".heic", ".jp2", ".jxl")


class Job(NamedTuple):
    """One picture to denoise.

    Attributes:
      source: the file that is read.
      target: the file that is written.
      comparison: the file of both side by side, empty if there is to be none.
    """

    source: str
    target: str
    comparison: str


def plan_jobs(inputs: Sequence[str], output: str, compare: bool = False) -> list[Job]:
    """Lists the pictures to denoise; writes nothing.

    Warns of pictures in folders that can't be denoised, by their suffix.

    Args:
      inputs: files, which are taken whatever their names, and folders, of which all
        pictures are taken by their suffix, those of sub-folders and links that lead
        nowhere as well; hidden ones, links to folders and the output folder are passed
        by. What is given twice counts once.
      output: the folder to write to; what is in a sub-folder of an input comes into one
        of the same name.
      compare: whether to write `NAME-compare.png` for `NAME.SUFFIX` as well.

    Returns:
      One job a picture, at least one an input.

    Raises:
      UsageError: an input that is not there or a folder without pictures; an output
        that is no folder; two files that would be written under one name; or one that
        would replace an input, under whatever name.
    """
    if os.path.lexists(output) and not os.path.isdir(output):
        raise UsageError(f"--output={output} is a file; a folder is to be written to")
    jobs = []
    for given in inputs:
        for source, name in _pictures(given, output):
            target = os.path.join(output, name)
            stem = os.path.splitext(target)[0]
            jobs.append(Job(source, target, f"{stem}-compare.png" if compare else ""))
    jobs = list(dict.fromkeys(jobs))
    _check(jobs, output)
    return jobs


def _pictures(given: str, output: str) -> Iterator[tuple[str, str]]:
    """The pictures of one input, each with its name below the output folder."""
    if os.path.isfile(given):
        yield given, os.path.basename(given)
        return
    if not os.path.isdir(given):
        raise UsageError(f"INPUT {given} is no file and no folder")
    found, others = False, []
    for folder, folders, names in os.walk(given, onerror=_refuse):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and not _is_same(os.path.join(folder, name), output)
        )
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.startswith(".") or not _is_file_or_lost(path):
                continue
            if name.lower().endswith(SUFFIXES):
                found = True
                yield path, os.path.relpath(path, given)
            elif name.lower().endswith(_OTHER_SUFFIXES):
                others.append(path)
    if others:
        warn(
            f"INPUT {given}: {len(others)} pictures are passed by, as {others[0]}; "
            f"those in {', '.join(SUFFIXES)} can be denoised"
        )
    if not found:
        raise UsageError(
            f"INPUT {given} has no pictures, no files in {', '.join(SUFFIXES)}"
        )


def _is_file_or_lost(path: str) -> bool:
    """Whether it is a file, or a link to one that is not there."""
    return os.path.isfile(path) or not os.path.exists(path)


def _refuse(error: OSError) -> None:
    raise UsageError(f"INPUT {error.filename} can't be read: {error.strerror}")


def _check(jobs: Sequence[Job], output: str) -> None:
    """Raises UsageError unless every written file is another one, and no input."""
    inputs = {_identity(job.source): job.source for job in jobs}
    inputs.pop(None, None)  # links that lead nowhere
    written: dict[str, Job] = {}
    for job in jobs:
        paths = [path for path in (job.target, job.comparison) if path]
        for path in [*paths, *map(temporary_path, paths)]:
            if (other := written.setdefault(path, job)) is not job:
                raise UsageError(
                    f"{other.source} and {job.source} would both be written to {path}: "
                    "rename one, or denoise them into different folders"
                )
            if (source := inputs.get(_identity(path))) is not None:
                raise UsageError(
                    f"--output={output}: {path} would replace the input {source}; "
                    "give another folder"
                )


def _identity(path: str) -> tuple[int, int] | None:
    """What two names of one file have in common; None if there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_same(path: str, other: str) -> bool:
    return os.path.exists(other) and os.path.samefile(path, other)
