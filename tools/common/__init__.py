"""Flag values, file sizes and tables that several tools share."""

import re
import statistics
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from aelab.errors import UsageError


def whole_number(name: str, text: str, minimum: int = 0) -> int:
    """The number in the text of a flag; UsageError if it is not at least `minimum`."""
    if re.fullmatch("[0-9]{1,18}", text) and int(text) >= minimum:
        return int(text)
    wanted = f"a whole number of at least {minimum}"
    raise UsageError(f"--{name} must be {wanted}, not {text!r}")


def names_among(name: str, text: str, choices: Collection[str]) -> list[str]:
    """The comma-separated names in the text of a flag.

    Raises UsageError if a name is not one of `choices`, or is given twice.
    """
    names = text.split(",")
    if set(names) <= set(choices) and len(set(names)) == len(names):
        return names
    wanted = f"names from {', '.join(choices)}, each once, separated by commas"
    raise UsageError(f"--{name} must be {wanted}, not {text!r}")


def file_size(path: Path) -> int:
    """Number of bytes, 0 if the file does not exist."""
    return path.stat().st_size if path.exists() else 0


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with one line per row; a `|` in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        for cells in lines
    )


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, minimum and maximum, for example `2.00 (1.50 to 3.00)`."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"
