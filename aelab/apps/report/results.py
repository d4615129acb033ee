"""The tables of a report as HTML: overview, evaluations and configurations."""

from collections.abc import Container, Sequence
from html import escape
from typing import Any

from aelab.apps.report.runs import Run
from aelab.apps.report.tables import (
    MAX_ROWS,
    NAME,
    Table,
    differences,
    flatten,
    table_of,
)
from aelab.metric_info import heading

_ABOUT = ("checkpoint", "step", "examples", "data")
_METRICS = {"input": "input", "metrics": "output"}
_FIRST = ("psnr", "ssim", "mse", "bce")
_SPREAD = {"psnr_median": "median", "psnr_worst_percent": "worst 1%"}


def overview(runs: Sequence[Run], axis: str) -> str:
    """Progress of each run, its evaluation of lowest loss, and notes on damage."""
    columns = [NAME, f"last {axis}", "lowest eval loss", f"at {axis}"]
    columns += [*map(heading, _FIRST[:2]), "images/s, median"]
    rows = []
    for run in runs:
        ends = [float(curve.x.max()) for curve in run.curves.values()]
        where, loss, _ = run.curve("eval", "loss").lowest()
        metrics = [run.at_lowest_loss(name) for name in _FIRST[:2]]
        speed = run.curve("train", "images_per_second").median()
        rows.append([run.name, max(ends, default=None), loss, where, *metrics, speed])
    notes = "".join(_note(run, note) for run in runs for note in run.notes)
    return table_html(Table(columns, rows)) + notes


def _note(run: Run, sentence: str) -> str:
    return f'<p class="note">{escape(run.name)}: {escape(sentence)}</p>\n'


def evaluation(runs: Sequence[Run]) -> str:
    """Input and output of all runs in one table; all other results run by run."""
    rows = [row for run in runs for row in _evaluation_rows(run)]
    text = table_html(_metric_table(rows, len(rows))) if rows else ""
    for run in runs:
        data = run.evaluation.get("data")
        if isinstance(data, dict) and data.get("as_in_training") is False:
            text += _note(run, "evaluation.json is of other images than in training.")
        for key, value in run.evaluation.items():
            is_shown = key in _METRICS and isinstance(value, dict)
            if key not in _ABOUT and not is_shown:
                text += _other_result(f"{run.name}: {key}", value)
    return text


def _evaluation_rows(run: Run) -> list[dict[str, Any]]:
    """The metrics of a run's input and output on all images."""
    about = {name: run.evaluation.get(name) for name in _ABOUT[:3]}
    rows = []
    for key, label in _METRICS.items():
        if isinstance(values := run.evaluation.get(key), dict):
            metrics = flatten(values)
            first = {name: metrics.pop(name) for name in _FIRST if name in metrics}
            rows.append({NAME: f"{run.name}: {label}", **first, **metrics, **about})
    return rows


def _metric_table(value: Any, max_rows: int = MAX_ROWS) -> Table:
    """A table of a JSON value, with the titles and units of metrics as headings."""
    table = table_of(value, max_rows)
    spread = {key: f"{heading('psnr')}, {part}" for key, part in _SPREAD.items()}
    columns = [spread.get(name, heading(name)) for name in table.columns]
    return Table(columns, table.rows)


def _other_result(name: str, value: Any) -> str:
    """A value of `evaluation.json` other than the metrics of all images."""
    if value in ([], {}, None):
        return ""
    table = _metric_table(value)
    if len(table.columns) == len(table.rows) == 1:
        return f"<p>{escape(name)}: {cell_text(table.rows[0][0], name)}</p>\n"
    return f"<h3>{escape(name)}</h3>\n{table_html(table)}"


def differing_fields(runs: Sequence[Run]) -> str:
    """The fields in which configurations differ, with a column per run."""
    table = differences([run.name for run in runs], [run.config for run in runs])
    return table_html(table, exact=True) if table.rows else ""


def configurations(runs: Sequence[Run]) -> str:
    """The content of each `config.json`, collapsed."""
    parts = []
    for run in runs:
        rows = [[name, value] for name, value in flatten(run.config).items()]
        parts.append(
            f"<details>\n<summary>{escape(run.name)}</summary>\n"
            f"{table_html(Table([NAME, 'value'], rows), exact=True)}</details>\n"
        )
    return "".join(parts)


def table_html(
    table: Table, exact: bool = False, right: Container[str] = frozenset()
) -> str:
    """A table, its first column with names, in a box that scrolls on a narrow page.

    If `exact` is True, all digits of numbers are shown. Numbers are aligned right, and
    so are the columns with the titles `right`.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    body = ""
    for name, *values in table.rows:
        body += f'<tr><th scope="row">{cell_text(name, NAME, exact)}</th>'
        for column, value in zip(table.columns[1:], values, strict=True):
            is_number = isinstance(value, int | float) or column in right
            kind = ' class="number"' if is_number else ""
            body += f"<td{kind}>{cell_text(value, column, exact)}</td>"
        body += "</tr>\n"
    return (
        f'<div class="wide" tabindex="0">\n<table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def cell_text(value: Any, column: str, exact: bool = False) -> str:
    """A value as HTML: two decimals for decibels, four digits for other numbers."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return str(value).lower()
    if exact or not isinstance(value, int | float):
        return escape(str(value))
    if isinstance(value, int):
        return f"{value:,}"
    if "psnr" in column.lower():
        return f"{value:.2f}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e12 else f"{value:.4g}"
