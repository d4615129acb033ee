"""Checks of flag values that several tools take."""

import re
from collections.abc import Collection

from aelab.errors import UsageError


def whole_number(name: str, text: str, minimum: int = 0) -> int:
    """The number in the text of flag `name`.

    Raises:
      UsageError: the text is not a whole number of at least `minimum`.
    """
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < minimum:
        raise UsageError(
            f"--{name} must be a whole number of at least {minimum}, not {text!r}"
        )
    return int(text)


def names_among(name: str, text: str, choices: Collection[str]) -> list[str]:
    """The comma-separated names in the text of flag `name`.

    Raises:
      UsageError: a name is not one of `choices`, or is given twice.
    """
    names = text.split(",")
    if set(names) <= set(choices) and len(set(names)) == len(names):
        return names
    raise UsageError(
        f"--{name} must be names from {', '.join(choices)}, each once, separated by "
        f"commas, not {text!r}"
    )
