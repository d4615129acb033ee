"""A field of the configuration: its help, what it may be, the check of a value.

Each is a field of a dataclass, which carries all that in its metadata.
"""

import dataclasses
import math
import sys
from typing import Any

from aelab.errors import UsageError

Field = dataclasses.Field[Any]

_KINDS: dict[type, str] = {int: "an integer", float: "a number", str: "a text"}


def field(
    default: int | float | str,
    help: str,
    *,
    choices: tuple[str, ...] | tuple[int, ...] = (),
    is_list: bool = False,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    level_of: str = "",
    changes_numbers: bool = True,
) -> Any:
    """A field with its help, what it may be, and whether a resumed run may change it.

    Args:
      default: value when nothing is given; its type is the field's.
      help: one sentence for `--help`.
      choices: allowed values, all if empty.
      is_list: whether several of the choices may be given, joined by commas.
      minimum: smallest allowed number.
      above: the number must be larger than this.
      maximum: largest allowed number.
      level_of: the corruption whose strength it is.
      changes_numbers: whether the trained weights or the logged figures depend on it.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "is_list": is_list,
        "minimum": minimum,
        "above": above,
        "maximum": maximum,
        "level_of": level_of,
        "changes_numbers": changes_numbers,
    }
    return dataclasses.field(default=default, metadata=metadata)


def type_of(field: Field) -> type:
    """The type of a field's value: int, float or str."""
    return type(field.default)


def parse(field: Field, text: str) -> int | float | str:
    """The value that `text` means for a field.

    Raises:
      UsageError: `text` is no number where one is needed, or not an allowed one.
    """
    kind = type_of(field)
    try:
        value: int | float | str = kind(text)
    except ValueError:
        message = f"--{field.name} must be {_KINDS[kind]}, not {text!r}"
        raise UsageError(message) from None
    check(field, value)
    return value


def check(field: Field, value: Any) -> None:
    """Raises UsageError unless `value` has the field's type and is allowed."""
    kind = type_of(field)
    fits = isinstance(value, int | float if kind is float else kind)
    if isinstance(value, bool) or not fits:
        raise UsageError(f"--{field.name} must be {_KINDS[kind]}, not {value!r}")
    allowed = field.metadata
    values = value.split(",") if allowed["is_list"] else [value]
    if allowed["choices"] and not set(values) <= set(allowed["choices"]):
        known = ", ".join(map(str, allowed["choices"]))
        several = ", or several joined by commas" if allowed["is_list"] else ""
        raise UsageError(
            f"--{field.name} must be one of {known}{several}; not {value!r}"
        )
    if kind is str:
        if not value.isprintable() or value != value.strip():
            raise UsageError(
                f"--{field.name} must be printable, without spaces around it, "
                f"not {value!r}"
            )
        return
    limits = {
        "a finite number": not abs(value) <= sys.float_info.max,
        f"at least {allowed['minimum']}": value < _or(allowed["minimum"], -math.inf),
        f"above {allowed['above']}": value <= _or(allowed["above"], -math.inf),
        f"at most {allowed['maximum']}": value > _or(allowed["maximum"], math.inf),
    }
    for what, broken in limits.items():
        if broken:
            raise UsageError(f"--{field.name} must be {what}, not {value}")


def _or(limit: float | None, otherwise: float) -> float:
    return otherwise if limit is None else limit
