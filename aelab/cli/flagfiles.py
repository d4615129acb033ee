"""Flagfiles: one flag per line; empty lines and comments (`#`, `//`) are skipped.

absl's own reader recurses without limit on flagfiles that include each other, and
silently skips a `--flagfile` with spaces before it. It takes a byte-order mark, with
which some editors begin a file, for a part of the first flag.
"""

import os
from collections.abc import Sequence

from aelab.cli.paths import check_is_local
from aelab.errors import UsageError

HELP = "Read flags from this file; later flags override it."

_MAX_FILES = 100
_MAX_SIZE = 2**20  # characters


def expand(
    words: Sequence[str], folder: str = "", opened: list[str] | None = None
) -> list[str]:
    """Replaces each `--flagfile` in `words` by the lines of its file.

    Args:
      words: a command line without the script's name, or the lines of a flagfile.
      folder: the folder of that flagfile. A flagfile that it includes is looked for
        there first, and then in the current folder.
      opened: the flagfiles that were opened are appended to it.

    Raises:
      UsageError: a flagfile can't be read or is too long, or there are more than 100.
    """
    opened = [] if opened is None else opened
    expanded: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, path = word.partition("=")
        if flag in ("--flagfile", "-flagfile"):
            path = path if equals else next(rest, "")
            expanded += expand(*_lines(path, folder, opened), opened)
        else:
            expanded.append(word)
        if word == "--":  # no flags follow it
            break
    return [*expanded, *rest]


def _lines(path: str, folder: str, opened: list[str]) -> tuple[list[str], str]:
    """The lines of a flagfile, without empty ones and comments, and its folder."""
    check_is_local(f"--flagfile={path}")
    opened.append(path)
    if len(opened) > _MAX_FILES:
        raise UsageError(
            f"--flagfile={path}: more than {_MAX_FILES} flagfiles; "
            "does one of them include itself?"
        )
    try:
        found = os.path.expanduser(path)
        if os.path.exists(beside := os.path.join(folder, found)):
            found = beside
        with open(found, encoding="utf-8-sig", errors="surrogateescape") as file:
            text = file.read(_MAX_SIZE + 1)
    except (OSError, ValueError) as error:  # missing, or NUL in its name
        raise UsageError(f"--flagfile={path} can't be read: {error}") from None
    if len(text) > _MAX_SIZE:
        raise UsageError(f"--flagfile={path} is too long to be a flagfile")
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line and not line.startswith(("#", "//"))]
    # Only the path in a flag may have bytes that are not UTF-8.
    if any(not (line.startswith("-") or line.isprintable()) for line in lines):
        raise UsageError(f"--flagfile={path} can't be read: it is not text in UTF-8")
    return lines, os.path.dirname(found)
