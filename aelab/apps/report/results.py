"""The tables of a report: overview, evaluations and configurations."""

from collections.abc import Sequence
from html import escape
from typing import Any

from aelab.apps.report.html import cell_text, table_html
from aelab.apps.report.runs import Run
from aelab.apps.report.tables import NAME, Table, differences, flatten, table_of
from aelab.metric_info import heading

_ABOUT = ("checkpoint", "step", "examples", "data")
_METRICS = {"input": "input", "metrics": "output"}
_FIRST = ("psnr", "ssim", "mse", "bce")


def overview(runs: Sequence[Run], axis: str) -> str:
    """Progress of each run, its evaluation of lowest loss, and notes on damage."""
    columns = [NAME, f"last {axis}", "lowest eval loss", f"at {axis}"]
    columns += [*map(heading, _FIRST[:2]), "images/s, median"]
    rows = []
    for run in runs:
        ends = [float(curve.x.max()) for curve in run.curves.values()]
        best = run.curve("eval", "loss").lowest()
        where, loss, step = best or (None, None, None)
        metrics = [run.curve("eval", name).at(step) for name in _FIRST[:2]]
        speed = run.curve("train", "images_per_second").median()
        rows.append([run.name, max(ends, default=None), loss, where, *metrics, speed])
    notes = "".join(_note(run, note) for run in runs for note in run.notes)
    return table_html(Table(columns, rows)) + notes


def _note(run: Run, sentence: str) -> str:
    return f'<p class="note">{escape(run.name)}: {escape(sentence)}</p>\n'


def evaluation(runs: Sequence[Run]) -> str:
    """Input and output of all runs in one table; all other results run by run."""
    rows = [row for run in runs for row in _evaluation_rows(run)]
    text = table_html(table_of(rows)) if rows else ""
    for run in runs:
        data = run.evaluation.get("data")
        if isinstance(data, dict) and data.get("as_in_training") is False:
            text += _note(run, "evaluation.json is of other images than in training.")
        for key, value in run.evaluation.items():
            if key not in _ABOUT and not _is_metrics(key, value):
                text += _other_result(f"{run.name}: {key}", value)
    return text


def _is_metrics(key: str, value: Any) -> bool:
    return key in _METRICS and isinstance(value, dict)


def _evaluation_rows(run: Run) -> list[dict[str, Any]]:
    """The metrics of a run's input and output on all images."""
    about = {name: run.evaluation.get(name) for name in _ABOUT[:3]}
    rows = []
    for key, label in _METRICS.items():
        if _is_metrics(key, run.evaluation.get(key)):
            metrics = flatten(run.evaluation[key])
            first = {name: metrics.pop(name) for name in _FIRST if name in metrics}
            rows.append({NAME: f"{run.name}: {label}", **first, **metrics, **about})
    return rows


def _other_result(name: str, value: Any) -> str:
    """A value of `evaluation.json` other than the metrics of all images."""
    if value in ([], {}, None):
        return ""
    table = table_of(value)
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
