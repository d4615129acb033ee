"""Paths on command lines: folders and files of this machine."""

import os
import re

from aelab.config import is_storable
from aelab.errors import UsageError

_URL = re.compile(r"(^|,)[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def check_is_local(given: str) -> None:
    """Raises UsageError if `given`, `--name=path` or a path, names a URL.

    A local folder with such a name is given as `./gs:/bucket`.
    """
    if _URL.search(given.partition("=")[2] if given.startswith("--") else given):
        raise UsageError(
            f"{given} is not on this machine: give a local path; a bucket can be "
            "mounted, for example with gcsfuse or s3fs, and its mount point given"
        )


def parse_path(name: str, text: str) -> str:
    """The path that the flag `name` gives, with `~` expanded.

    Raises:
      UsageError: it is a URL, or a flagfile can't hold it.
    """
    check_is_local(f"--{name}={text}")
    if is_storable(text.strip()):
        path = os.path.expanduser(text)
        if is_storable(os.path.abspath(path) if path else ""):
            return path
    raise UsageError(
        f"--{name} must be a printable path without trailing spaces, not {text!r}"
    )
