"""What a report says in tables: where runs stand, evaluations, configurations."""

from collections.abc import Sequence
from html import escape
from typing import Any

from aelab.apps.report.curves import at, lowest, median
from aelab.apps.report.html import cell_text, table_html
from aelab.apps.report.runs import Run
from aelab.apps.report.tables import NAME, Table, differences, flatten, table_of

_ABOUT = ("checkpoint", "step", "examples", "data")
_FIGURES = {"input": "input", "metrics": "output"}
_FIRST = ("psnr", "ssim", "mse", "bce")
_OTHER_IMAGES = (
    "evaluation.json is not of the images that the run was evaluated on in training."
)


def overview(runs: Sequence[Run], axis: str) -> str:
    """Where each run stands, its best evaluation, and what is wrong with it."""
    columns = [
        *(NAME, f"last {axis}", "lowest eval loss", f"at {axis}"),
        *("PSNR there, dB", "SSIM there", "images/s, median"),
    ]
    rows = []
    for run in runs:
        ends = [float(curve.x.max()) for curve in run.curves.values()]
        best = lowest(run.curves.get(("eval", "loss")))
        where, loss, step = best or (None, None, None)
        there = [at(run.curves.get(("eval", name)), step) for name in ("psnr", "ssim")]
        speed = median(run.curves.get(("train", "images_per_second")))
        rows.append([run.name, max(ends, default=None), loss, where, *there, speed])
    notes = "".join(_note(run, note) for run in runs for note in run.notes)
    return table_html(Table(columns, rows)) + notes


def _note(run: Run, sentence: str) -> str:
    return f'<p class="note">{escape(run.name)}: {escape(sentence)}</p>\n'


def evaluation(runs: Sequence[Run]) -> str:
    """Input and output of all runs in one table; what else there is, run by run."""
    rows = [row for run in runs for row in _evaluation_rows(run)]
    text = table_html(table_of(rows)) if rows else ""
    for run in runs:
        data = run.evaluation.get("data")
        if isinstance(data, dict) and data.get("as_in_training") is False:
            text += _note(run, _OTHER_IMAGES)
        for key, value in run.evaluation.items():
            if key not in _ABOUT and not _is_figures(key, value):
                text += _other_result(f"{run.name}: {key}", value)
    return text


def _is_figures(key: str, value: Any) -> bool:
    return key in _FIGURES and isinstance(value, dict)


def _evaluation_rows(run: Run) -> list[dict[str, Any]]:
    """The figures of a run's input and output on all images."""
    about = {name: run.evaluation.get(name) for name in _ABOUT[:3]}
    rows = []
    for key, what in _FIGURES.items():
        if _is_figures(key, run.evaluation.get(key)):
            figures = flatten(run.evaluation[key])
            first = {name: figures.pop(name) for name in _FIRST if name in figures}
            rows.append({NAME: f"{run.name}: {what}", **first, **figures, **about})
    return rows


def _other_result(name: str, value: Any) -> str:
    """What `evaluation.json` holds beside the figures of all images."""
    if value in ([], {}, None):
        return ""
    table = table_of(value)
    if len(table.columns) == len(table.rows) == 1:
        return f"<p>{escape(name)}: {cell_text(table.rows[0][0], name)}</p>\n"
    return f"<h3>{escape(name)}</h3>\n{table_html(table)}"


def differing_fields(runs: Sequence[Run]) -> str:
    """The fields that differ, a column for each run."""
    table = differences([run.name for run in runs], [run.config for run in runs])
    return table_html(table, exact=True) if table.rows else ""


def configurations(runs: Sequence[Run]) -> str:
    """All that `config.json` holds, folded."""
    parts = []
    for run in runs:
        rows = [[name, value] for name, value in flatten(run.config).items()]
        parts.append(
            f"<details>\n<summary>{escape(run.name)}</summary>\n"
            f"{table_html(Table([NAME, 'value'], rows), exact=True)}</details>\n"
        )
    return "".join(parts)
