"""Tables out of JSON values of any shape, and of what differs between several."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NAME = ""  # the column of the rows' names
_DEEPEST = 6
_MOST_LISTED = 12
_MOST_ROWS = 200


@dataclass(frozen=True)
class Table:
    """A table to be shown.

    Attributes:
      columns: what stands above.
      rows: a value for each column: text, number, truth value or None.
    """

    columns: list[str]
    rows: list[list[Any]]


def table_of(value: Any) -> Table:
    """A table of a JSON value.

    A row for each innermost object in it, which is called by its keys from the outside
    in, and has the scalars of the objects around it as well; a list of objects gives
    the rows of each. Beyond 200 rows the rest is only counted.
    """
    rows = list(_rows(value, "", {}, 0))
    shown = rows[:_MOST_ROWS]
    columns = list(dict.fromkeys(name for row in shown for name in row))
    if len(columns) > 1 and not any(row[NAME] for row in shown):
        columns.remove(NAME)
    table = [[row.get(name, "") for name in columns] for row in shown]
    if len(rows) > len(shown):
        more = f"and {len(rows) - len(shown):,} rows more"
        table.append([more, *[""] * (len(columns) - 1)])
    return Table(columns, table)


def _rows(
    value: Any, name: str, around: dict[str, Any], depth: int
) -> Iterator[dict[str, Any]]:
    if depth == _DEEPEST or not _has_objects(value):
        yield {NAME: name, **around, "value": _scalar(value)}
    elif isinstance(value, list):
        for part in value:
            yield from _rows(part, name, around, depth + 1)
    else:
        parts = {key: part for key, part in value.items() if _has_objects(part)}
        others = {
            key: _scalar(part)
            for key, part in value.items()
            if key not in parts and part not in ([], {})
        }
        if not parts:
            yield {NAME: name, **around, **others}
        for key, part in parts.items():
            whole_name = f"{name} {key}".strip()
            yield from _rows(part, whole_name, {**around, **others}, depth + 1)


def _has_objects(value: Any) -> bool:
    """Whether it gives rows: an object, or a list of nothing else."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(part, dict) for part in value)
    return isinstance(value, dict) and bool(value)


def _scalar(value: Any) -> Any:
    """A value for one cell: of what is long or nested only the size."""
    if not isinstance(value, list | dict):
        return value
    is_nested = any(isinstance(part, list | dict) for part in value)
    if isinstance(value, dict) or is_nested or len(value) > _MOST_LISTED:
        return f"{len(value):,} values"
    return ", ".join(map(str, value))


def flatten(value: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """An object's scalars by their whole names, the parts with spaces between."""
    flat: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, dict) and depth < _DEEPEST:
            inner = flatten(part, depth + 1)
            flat |= {f"{key} {name}": scalar for name, scalar in inner.items()}
        else:
            flat[key] = _scalar(part)
    return flat


def differences(names: Sequence[str], configs: Sequence[dict[str, Any]]) -> Table:
    """Of which fields the configurations hold different values.

    Args:
      names: of the runs, one a column.
      configs: what their `config.json` hold; a field may be missing.
    """
    flat = [flatten(config) for config in configs]
    fields = dict.fromkeys(name for config in flat for name in config)
    rows = [[field, *[config.get(field) for config in flat]] for field in fields]
    differing = [row for row in rows if len({str(value) for value in row[1:]}) > 1]
    return Table([NAME, *names], differing)
