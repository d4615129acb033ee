"""The variants of a study, as `--vary` names them."""

import difflib
import itertools
import os
import re
import shlex
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import NamedTuple

from aelab.config import FIELDS, is_function, parse_field, to_text
from aelab.config.fields import Value
from aelab.errors import UsageError

ONLY = "only"  # the name of the variant if nothing varies
_SET_BY_STUDY = ("seed", "run_dir")
_UNSAFE = re.compile(r"[^A-Za-z0-9._=,+-]")
_MAX_NAME = 200  # bytes; file systems allow 255


class Variant(NamedTuple):
    """A name, which is a folder's, and the fields of `Config` that it sets."""

    name: str
    flags: dict[str, Value]


def parse_variants(given: Sequence[str]) -> list[Variant]:
    """The variants that the values of `--vary` describe.

    Each is `FLAG=V1,V2`, and all together are a grid. Or there is one, `@FILE`, with a
    line `NAME: --flag=value --flag=value` for each variant; empty lines and lines that
    begin with # are skipped.

    Raises:
      UsageError: an unknown flag or value, a flag that is varied twice or that a study
        sets itself, or variants of one name or of equal values.
    """
    files = [text for text in given if text.startswith("@")]
    if files and len(given) > 1:
        raise UsageError(
            f"--vary={files[0]} has all variants; give no other --vary with it"
        )
    variants = _read_file(files[0][1:]) if files else _grid(given)
    _check_distinct(variants)
    return variants


def _grid(given: Sequence[str]) -> list[Variant]:
    """All combinations of the values given for each flag."""
    axes = {
        name: [
            parse_value(name, value, f"--vary={name}={values}")
            for value in values.split(",")
        ]
        for name, values in read_axes(given).items()
    }
    combinations = itertools.product(*axes.values())
    flags = [dict(zip(axes, values, strict=True)) for values in combinations]
    return [Variant(grid_name(each) or ONLY, each) for each in flags]


def read_axes(given: Sequence[str]) -> dict[str, str]:
    """The text of the values of each flag, from `FLAG=VALUES`.

    Raises:
      UsageError: an unknown flag, or one that is varied twice or set by the study.
    """
    axes: dict[str, str] = {}
    for text in given:
        name, equals, values = text.partition("=")
        name = name.removeprefix("--")
        if not equals or not values:
            raise UsageError(f"--vary={text} must be FLAG=VALUE,VALUE or @FILE")
        _check_name(name, f"--vary={text}")
        if name in axes:
            raise UsageError(f"--vary={text}: --{name} is varied twice")
        axes[name] = values
    return axes


def grid_name(flags: dict[str, Value]) -> str:
    """The name of a variant of a grid, for example `learning_rate=0.3,loss=mse`."""
    text = ",".join(f"{name}={to_text(value)}" for name, value in flags.items())
    return _UNSAFE.sub("_", text)


def _read_file(path: str) -> list[Variant]:
    """The variants in a file, one per line."""
    given = f"--vary=@{path}"
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{given} can't be read: {error}") from None
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line]
    variants = [
        _read_line(line, f"{given}, line {number}")
        for number, line in numbered
        if not line.startswith("#")
    ]
    if not variants:
        raise UsageError(f"{given} has no variants")
    return variants


def _read_line(line: str, place: str) -> Variant:
    name, colon, rest = line.partition(":")
    if not colon or not is_safe(name):
        raise UsageError(
            f"{place} must be NAME: --flag=value ..., with a name of letters, digits "
            f"and ._=,+-; not {line!r}"
        )
    flags: dict[str, Value] = {}
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise UsageError(f"{place}: {error}") from None
    for word in words:
        flag, equals, value = word.partition("=")
        field = flag.removeprefix("--")
        if not flag.startswith("--") or not equals:
            raise UsageError(f"{place}: {word!r} must be --flag=value")
        _check_name(field, place)
        if field in flags:
            raise UsageError(f"{place}: --{field} is given twice")
        flags[field] = parse_value(field, value, place)
    return Variant(name, flags)


def _check_name(name: str, place: str) -> None:
    """Raises UsageError unless `name` is a field that a study may vary."""
    if name in _SET_BY_STUDY:
        hint = ": give --seeds=N, the number of seeds" if name == "seed" else ""
        raise UsageError(f"{place}: a study sets --{name} itself{hint}")
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, 1)
        hint = f"; did you mean --{near[0]}?" if near else ""
        raise UsageError(f"{place}: there is no flag --{name}{hint}")


def parse_value(name: str, text: str, place: str) -> Value:
    """The value of a field; raises UsageError that begins with `place`."""
    try:
        return parse_field(name, text)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None


def is_safe(name: str) -> bool:
    """Whether a variant of this name can have a folder of this name."""
    return bool(name) and not _UNSAFE.search(name) and not name.startswith(".")


def check_module(variant: str, model: str) -> None:
    """Looks for the module of a user's own model, without importing it.

    Raises:
      UsageError: there is no such module.
    """
    package = model.partition(":")[0].partition(".")[0]
    if is_function(model) and not (
        PathFinder.find_spec(package, [os.getcwd()]) or find_spec(package)
    ):
        raise UsageError(
            f"variant {variant}: --model={model}: there is no module {package} in this "
            "folder or in Python's environment"
        )


def _check_distinct(variants: Sequence[Variant]) -> None:
    """Raises UsageError for two variants of one name or of equal values."""
    names: dict[str, Variant] = {}
    values: dict[tuple[tuple[str, Value], ...], Variant] = {}
    for variant in variants:
        key = tuple(sorted(variant.flags.items()))
        if other := values.get(key):
            raise UsageError(
                f"--vary: the variants {other.name} and {variant.name} have equal "
                "values"
            )
        if variant.name in names:
            raise UsageError(f"--vary: two variants have the name {variant.name}")
        if len(variant.name.encode()) > _MAX_NAME:
            raise UsageError(
                f"--vary: the name of the variant {variant.name} is too long for a "
                "folder: give it a shorter one in a file, --vary=@FILE"
            )
        names[variant.name] = values[key] = variant
