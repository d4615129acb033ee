"""Decides which file is denoised into which, before anything is written."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from aelab.data.find_pictures import SUFFIXES, find_pictures
from aelab.errors import UsageError
from aelab.system.outputs import check_outputs


class Job(NamedTuple):
    """The files to read and to write for one picture."""

    source: str
    target: str
    comparison: str  # the file for both, side by side; empty = none


def plan_jobs(
    inputs: Sequence[str], output: str, compare: bool = False, overwrite: bool = False
) -> list[Job]:
    """Lists the pictures to denoise, at least one per input; writes nothing.

    Inputs are files, with any name, and folders. From a folder and its sub-folders all
    files with the suffix of a picture are taken, including links to missing files.
    Links to folders and the output folder are skipped, and what `find_pictures` skips.
    Inputs that are given twice count once.

    A file in a sub-folder of an input is written to a sub-folder of the same name.
    `NAME.gif` becomes `NAME.png`. With `compare`, `NAME.SUFFIX` has `NAME-compare.png`.

    Raises:
      UsageError: an input does not exist or has no pictures, the output is not a
        folder, two files would be written under one name, or `check_outputs` raises it.
    """
    if os.path.lexists(output) and not os.path.isdir(output):
        raise UsageError(f"--output={output} is a file; it must be a folder")
    jobs = []
    for given in inputs:
        for source, name in _pictures(given, output):
            stem, suffix = os.path.splitext(os.path.join(output, name))
            target = stem + (".png" if suffix.lower() == ".gif" else suffix)
            jobs.append(Job(source, target, f"{stem}-compare.png" if compare else ""))
    jobs = list(dict.fromkeys(jobs))
    check_outputs(_distinct_paths(jobs), overwrite, [job.source for job in jobs])
    return jobs


def _pictures(given: str, output: str) -> list[tuple[str, str]]:
    """The pictures of one input, each with its name below the output folder."""
    if os.path.isfile(given):
        return [(given, os.path.basename(given))]
    if not os.path.isdir(given):
        raise UsageError(f"INPUT {given}: no such file or folder")
    try:
        found = find_pictures(given, f"INPUT {given}", ignored=output)
    except OSError as error:
        raise UsageError(
            f"INPUT {error.filename} can't be read: {error.strerror}"
        ) from None
    pictures = [(os.path.join(given, name), name) for name in found]
    # Links to missing files stay.
    pictures = [p for p in pictures if os.path.isfile(p[0]) or not os.path.exists(p[0])]
    if not pictures:
        suffixes = ", ".join(SUFFIXES)
        raise UsageError(f"INPUT {given} has no pictures, no files in {suffixes}")
    return pictures


def _distinct_paths(jobs: Sequence[Job]) -> list[str]:
    """All files to write; raises UsageError if two jobs would write the same."""
    writers: dict[str, Job] = {}
    for job in jobs:
        for path in filter(None, (job.target, job.comparison)):
            if (other := writers.setdefault(path, job)) is not job:
                raise UsageError(
                    f"{other.source} and {job.source} would both be written to {path}: "
                    "rename one, or denoise them into different folders"
                )
    return [*writers]
