"""Tables of JSON values of any shape, and of the differences between several."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NAME = ""  # title of the column of row names
_MAX_DEPTH = 6
_MAX_LISTED = 12
MAX_ROWS = 200


@dataclass(frozen=True)
class Table:
    """Titles of columns, and rows with text, a number, bool or None for each column."""

    columns: list[str]
    rows: list[list[Any]]


def table_of(value: Any, max_rows: int = MAX_ROWS) -> Table:
    """A table of a JSON value.

    There is one row per innermost object, named by its key path, which also has the
    scalars of the objects around it. A list of objects gives the rows of each. Beyond
    `max_rows`, the remaining ones are only counted.
    """
    rows = list(_rows(value, "", {}, 0))
    shown = rows[:max_rows]
    columns = list(dict.fromkeys(name for row in shown for name in row))
    if len(columns) > 1 and not any(row[NAME] for row in shown):
        columns.remove(NAME)
    table = [[row.get(name, "") for name in columns] for row in shown]
    if len(rows) > len(shown):
        more = f"and {len(rows) - len(shown):,} more rows"
        table.append([more, *[""] * (len(columns) - 1)])
    return Table(columns, table)


def _rows(
    value: Any, name: str, around: dict[str, Any], depth: int
) -> Iterator[dict[str, Any]]:
    if depth == _MAX_DEPTH or not _has_objects(value):
        yield {NAME: name, **around, "value": _scalar(value)}
    elif isinstance(value, list):
        for part in value:
            yield from _rows(part, name, around, depth + 1)
    else:
        parts = {key: part for key, part in value.items() if _has_objects(part)}
        if "baselines" in parts:  # `floors` has the same content
            parts.pop("floors", None)
        flat = {k: part for k, part in value.items() if not _has_objects(part)}
        others = {k: _scalar(part) for k, part in flat.items() if part not in ([], {})}
        if not parts:
            yield {NAME: name, **around, **others}
        for key, part in parts.items():
            path = f"{name} {key}".strip()
            yield from _rows(part, path, {**around, **others}, depth + 1)


def _has_objects(value: Any) -> bool:
    """True if it gives rows: a non-empty object or a non-empty list of objects."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(part, dict) for part in value)
    return isinstance(value, dict) and bool(value)


def _scalar(value: Any) -> Any:
    """A value for one cell; a long or nested value is replaced by its size."""
    if not isinstance(value, list | dict):
        return value
    is_nested = any(isinstance(part, list | dict) for part in value)
    if isinstance(value, dict) or is_nested or len(value) > _MAX_LISTED:
        return f"{len(value):,} values"
    return ", ".join(map(str, value))


def flatten(value: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """The scalars of an object by their key paths, joined by spaces."""
    flat: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, dict) and depth < _MAX_DEPTH:
            inner = flatten(part, depth + 1)
            flat |= {f"{key} {name}": scalar for name, scalar in inner.items()}
        else:
            flat[key] = _scalar(part)
    return flat


def differences(names: Sequence[str], configs: Sequence[dict[str, Any]]) -> Table:
    """The fields that differ between `config.json` of runs, which may lack some."""
    flat = [flatten(config) for config in configs]
    fields = dict.fromkeys(name for config in flat for name in config)
    rows = [[field, *[config.get(field) for config in flat]] for field in fields]
    differing = [row for row in rows if len({str(value) for value in row[1:]}) > 1]
    return Table([NAME, *names], differing)
