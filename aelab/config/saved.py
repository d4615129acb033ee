"""Configurations in files: `config.json`, its format, what differs between two runs."""

import dataclasses
import json
from typing import Any

from aelab.config import fields
from aelab.config.config import FIELDS, Config
from aelab.errors import FormatError, UsageError

# The format of the files that this release writes. A file without a format has 1.
FORMAT = 2

# What `config.json` holds besides the fields.
_OTHER_KEYS = {"format", "data", "machine", "versions"}


def check_format(found: Any, path: str) -> None:
    """Raises FormatError if `found`, the format of the file `path`, is a later one.

    Raises UsageError if it is not a format at all.
    """
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise UsageError(
            f"{path} has format {found!r}, which is not a positive integer"
        )
    if found > FORMAT:
        raise FormatError(
            f"{path} has format {found}, and this release of aelab reads formats up to "
            f"{FORMAT}: use a later release"
        )


def parse_object(text: str, path: str) -> dict[str, Any]:
    """The JSON object in `text`, the content of the file `path`.

    Raises:
      UsageError: it is not a JSON object.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold a JSON object")
    return values


def from_json(text: str, path: str) -> Config:
    """The configuration in a run directory's `config.json`.

    A field that the file does not name has the value that it meant before the field
    existed. Format 1 has booleans as text.

    Args:
      text: the file's content.
      path: the file's name, for the message.

    Raises:
      UsageError: not JSON, a later format, an unknown field, or a bad value.
    """
    values = parse_object(text, path)
    check_format(values.get("format", 1), path)
    if unknown := sorted(values.keys() - FIELDS.keys() - _OTHER_KEYS):
        raise UsageError(
            f"{path} has fields that this release of aelab does not know: "
            f"{', '.join(unknown)}"
        )
    known = {name: _converted(name, values[name]) for name in FIELDS if name in values}
    if not known:
        raise UsageError(f"{path} is not the configuration of a run")
    earlier = {name: field.metadata["earlier"] for name, field in FIELDS.items()}
    try:
        return Config(**(earlier | known))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _converted(name: str, value: Any) -> Any:
    """The value of a field whose type has changed since format 1."""
    is_text = isinstance(value, str) and fields.type_of(FIELDS[name]) is bool
    return {"true": True, "false": False}.get(value, value) if is_text else value


def differences(old: Config, new: Config) -> list[str]:
    """The changes that keep `new` from resuming a run of `old`, one line each.

    A line reads `--name: old -> new`. A longer run and other intervals change no step,
    so they are allowed. A cosine schedule stretches with the run, so with it the length
    counts as well.
    """
    fixed = {n for n, field in FIELDS.items() if field.metadata["changes_numbers"]}
    if old.learning_rate_schedule == "constant":
        fixed -= {"epochs", "train_steps"}
    before, after = dataclasses.asdict(old), dataclasses.asdict(new)
    return [
        f"--{name}: {fields.to_text(before[name])} -> {fields.to_text(after[name])}"
        for name in FIELDS
        if name in fixed and before[name] != after[name]
    ]
