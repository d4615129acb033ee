"""A field of the configuration: its help, its limits, the check of a value.

A field belongs to a dataclass and carries all of this in its metadata.
"""

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aelab.errors import UsageError

Field = dataclasses.Field[Any]
Value = bool | int | float | str

_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
}
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_BYTES = re.compile("[\udc80-\udcff]")  # PEP 383
LEVEL_HINT = (
    "pixels are in [0, 1], so for a level between 0 and 255 give a quotient, for "
    "example 25/255"
)
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def field(
    default: Value,
    help: str,
    *,
    choices: Iterable[str | int] = (),
    is_list: bool = False,
    takes_function: bool = False,
    minimum: float = 0,
    above: float | None = None,
    maximum: float | None = None,
    new_maximum: float | None = None,
    hint: str = "",
    only_with: Mapping[str, tuple[str, ...]] | None = None,
    changes_numbers: bool = True,
    earlier: Value | None = None,
) -> Any:
    """Declares a field.

    The limits may only ever widen, because files of earlier runs have to satisfy them.
    A limit that comes later and is narrower is `new_maximum`.

    Args:
      default: value when nothing is given; its type is the field's type.
      help: one sentence for `--help`.
      choices: allowed values; empty allows all.
      is_list: whether several choices may be given, joined by commas.
      takes_function: whether `module:function` is allowed besides the choices.
      minimum: smallest allowed number; not used with `above`.
      above: the number must be larger than this.
      maximum: largest allowed number.
      new_maximum: largest number that a command line may give to a new run.
      hint: what to do about a larger number, for the message.
      only_with: names of other fields, each with the choices that use this field. With
        another choice this field must have its default.
      changes_numbers: whether the trained weights or the logged metrics depend on it.
      earlier: what it means that the file of a run does not name the field, if that is
        not the default.
    """
    choices = tuple(choices)
    metadata = {
        "help": help,
        "choices": choices,
        "is_list": is_list,
        "takes_function": takes_function,
        "minimum": None if choices or above is not None else minimum,
        "above": above,
        "maximum": maximum,
        "new_maximum": new_maximum,
        "hint": hint,
        "only_with": dict(only_with or {}),
        "changes_numbers": changes_numbers,
        "earlier": default if earlier is None else earlier,
    }
    return dataclasses.field(default=default, metadata=metadata)


def type_of(field: Field) -> type:
    """The type of a field's value: bool, int, float or str."""
    return type(field.default)


def parse(field: Field, text: str) -> Value:
    """The value of a field as given on a command line; see `number`.

    Raises:
      UsageError: `text` is not of the field's type, or is not allowed.
    """
    kind = type_of(field)
    try:
        value: Value = _READERS.get(kind, kind)(text)
    except (ValueError, KeyError):
        message = f"--{field.name} must be {_KINDS[kind]}, not {text!r}"
        raise UsageError(message) from None
    check(field, value)
    return value


def number(text: str) -> float:
    """A number as given on a command line: `0.1` or a quotient, `25/255`.

    Raises:
      ValueError: `text` is neither.
    """
    dividend, slash, divisor = text.partition("/")
    try:
        return float(dividend) / float(divisor) if slash else float(text)
    except ZeroDivisionError:
        raise ValueError(text) from None


_READERS: dict[type, Callable[[str], Value]] = {
    bool: lambda text: _BOOLEANS[text.lower()],
    float: number,
}


def to_text(value: Value) -> str:
    """A value as a command line takes it; `parse` reads it back."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_function(value: Value) -> bool:
    """Whether a value is of the form `module:function`."""
    return isinstance(value, str) and _FUNCTION.fullmatch(value) is not None


def is_storable(text: str) -> bool:
    """Whether a flagfile can hold a value: printable, without spaces around it.

    Paths may have bytes that are not UTF-8, which Python turns into lone surrogates.
    """
    return _BYTES.sub("", text).isprintable() and text == text.strip()


def check_new(field: Field, value: Any) -> None:
    """Raises UsageError if `value` is above the limit for new runs."""
    limit, hint = field.metadata["new_maximum"], field.metadata["hint"]
    if limit is not None and value > limit:
        hint = f": {hint}" if hint else ""
        raise UsageError(f"--{field.name} must be at most {limit}, not {value}{hint}")


def check(field: Field, value: Any) -> None:
    """Raises UsageError unless `value` has the field's type and is allowed."""
    kind = type_of(field)
    fits = isinstance(value, int | float if kind is float else kind)
    if not fits or isinstance(value, bool) != (kind is bool):
        raise UsageError(f"--{field.name} must be {_KINDS[kind]}, not {value!r}")
    if not (field.metadata["takes_function"] and is_function(value)):
        _check_choice(field, value)
    if kind is str and not is_storable(value):
        raise UsageError(
            f"--{field.name} must be printable, without spaces around it, not {value!r}"
        )
    if kind in (int, float):
        _check_limits(field, value)


def _check_choice(field: Field, value: Any) -> None:
    choices, is_list = field.metadata["choices"], field.metadata["is_list"]
    values = value.split(",") if is_list else [value]
    if choices and not set(values) <= set(choices):
        known = ", ".join(map(str, choices))
        several = ", or several joined by commas" if is_list else ""
        function = ", or MODULE:FUNCTION" if field.metadata["takes_function"] else ""
        raise UsageError(
            f"--{field.name} must be one of {known}{several}{function}; not {value!r}"
        )


def _check_limits(field: Field, value: float) -> None:
    minimum, above, maximum = (
        field.metadata[name] for name in ("minimum", "above", "maximum")
    )
    broken = {
        "a finite number": not abs(value) <= sys.float_info.max,
        f"at least {minimum}": minimum is not None and value < minimum,
        f"above {above}": above is not None and value <= above,
        f"at most {maximum}": maximum is not None and value > maximum,
    }
    for limit, is_broken in broken.items():
        if is_broken:
            raise UsageError(f"--{field.name} must be {limit}, not {value}")
