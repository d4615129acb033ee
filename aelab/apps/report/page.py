"""Writes the page: one HTML file that loads nothing and runs nothing."""

import base64
import contextlib
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from aelab.apps.report import results
from aelab.apps.report.plots import DASHES, MAX_RUNS, NUM_COLORS, Line, draw
from aelab.apps.report.runs import Run, names, read_runs, select
from aelab.apps.report.studies import Study
from aelab.apps.report.style import STYLE
from aelab.apps.report.tables import Table
from aelab.metric_info import METRICS, heading
from aelab.system.console import printable, warn
from aelab.system.files import write_bytes, writing
from aelab.system.optional import require
from aelab.system.outputs import check_output_file

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_GENERATOR = '<meta name="generator" content="aelab report">'
_HEAD_BYTES = 1024
_NOTHING = '<p class="faint">None.</p>'


def write_report(
    run_dirs: Sequence[str],
    output: str,
    axis: str = "epoch",
    curves: str = "",
    overwrite: bool = False,
) -> int:
    """Writes one HTML page on runs and studies, which may still be training.

    The same folders give the same bytes. The x-axis of the curves is `epoch` or `step`.
    The curves are of the runs that `curves` names, or else of the `MAX_RUNS` best, see
    `select`. An earlier page is replaced, another file only with `overwrite`. Returns
    the size of the page in bytes.

    Raises:
      UsageError: `read_runs` or `select` raises it, matplotlib is missing, or `output`
        does not end in `.html` or can't be written.
      OSError: the disk is full or fails.
    """
    check_output_file(output, ".html", overwrite, is_own=_is_page)
    require("matplotlib.figure", extra="report")
    studies, runs = read_runs(run_dirs, axis)
    drawn = select(runs, curves, MAX_RUNS)
    # JSON may contain lone surrogates, which UTF-8 can't encode.
    page = _build_page(studies, runs, drawn, axis).encode(errors="backslashreplace")
    with writing(f"--output={output}"):
        write_bytes(output, page)
    return len(page)


def _is_page(path: str) -> bool:
    """Whether a file is a page of `write_report`."""
    try:
        with open(path, "rb") as file:
            return _GENERATOR.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _build_page(
    studies: Sequence[Study], runs: Sequence[Run], drawn: Sequence[Run], axis: str
) -> str:
    title = escape(_title(studies, runs))
    sections = {}
    for study, name in zip(studies, _names(studies), strict=True):
        sections[f"Study {escape(name)}"] = _study(study, name)
    sections |= {
        "Runs": results.overview(runs, axis) if runs else "",
        "Curves": _selection(runs, drawn) + (_curves(drawn, axis) or _NOTHING),
        "Pictures": _pictures(runs),
        "Evaluation": results.evaluation(runs),
    }
    if len(runs) > 1:
        sections["Differences"] = results.differing_fields(runs)
    sections["Configurations"] = results.configurations(runs)
    body = "\n".join(
        f"<section>\n<h2>{name}</h2>\n{content or _NOTHING}\n</section>"
        for name, content in sections.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{_GENERATOR}
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def _names(studies: Sequence[Study]) -> list[str]:
    return [*map(printable, names([study.path for study in studies]))]


def _title(studies: Sequence[Study], runs: Sequence[Run]) -> str:
    """Names the studies and the runs outside of them."""
    inside = {path for study in studies for path in study.runs}
    others = [run.name for run in runs if run.path not in inside]
    if len(others) > MAX_RUNS:
        others = [f"{len(others)} runs"]
    return f"Report: {', '.join([*_names(studies), *others])}"


def _study(study: Study, name: str) -> str:
    """The table of a study with its caption, and its picture."""
    columns = study.table.columns
    titles = [column.title for column in columns]
    right = {column.title for column in columns if column.alignment == "r"}
    table = Table(titles, [list(row) for row in study.table.rows])
    alt = f"The metric of each seed of {name}, and its curves"
    return (
        f"{results.table_html(table, right=right)}"
        f"<p>{escape(study.table.caption)}</p>\n"
        f"<figure>\n{_image(study.plot, alt)}\n</figure>"
    )


def _selection(runs: Sequence[Run], drawn: Sequence[Run]) -> str:
    """A note, also printed as a warning, if curves are drawn of some runs only."""
    if len(drawn) == len(runs):
        return ""
    text = (
        f"Curves are drawn of {len(drawn)} of the {len(runs)} runs. Without --curves, "
        f"they are the {MAX_RUNS} of highest PSNR."
    )
    warn(text)
    return f'<p class="note">{text}</p>\n'


def _curves(runs: Sequence[Run], axis: str) -> str:
    """A plot for each metric, with the curves of up to `MAX_RUNS` runs."""
    names = {name for run in runs for _, name in run.curves}
    plots = []
    for name in [*(n for n in METRICS if n in names), *sorted(names - METRICS.keys())]:
        lines = [
            Line(number, split, curve)
            for number, run in enumerate(runs)
            for split in ("train", "eval")
            if (curve := run.curve(split, name)).is_drawn()
        ]
        if lines:
            title = escape(heading(name))
            svg = f'<svg role="img" aria-label="{title}"'
            svg = draw(lines, name, axis).replace("<svg", svg, 1)
            plots.append(f"<figure>\n<figcaption>{title}</figcaption>\n{svg}</figure>")
    if not plots:
        return ""
    return (
        f"{_legend(runs)}<p>Thin lines: training. Thick lines: evaluation.</p>\n"
        f'<div class="curves">\n{"".join(plots)}\n</div>'
    )


def _legend(runs: Sequence[Run]) -> str:
    items = []
    for number, run in enumerate(runs):
        dashes = " ".join(map(str, DASHES[number // NUM_COLORS]))
        style = f"stroke: var(--run-{number % NUM_COLORS}); stroke-dasharray: "
        items.append(
            '<li><svg class="key" viewBox="0 0 38 10" aria-hidden="true"><line x2="38" '
            f'y1="5" y2="5" style="{style}{dashes or "none"}"/></svg>'
            f"{escape(run.name)}</li>\n"
        )
    return f"<ul>\n{''.join(items)}</ul>\n"


def _pictures(runs: Sequence[Run]) -> str:
    """The first and the newest picture of each tag of each run."""
    parts = []
    for run in runs:
        figures = ""
        for tag, step, png in run.pictures:
            image = _image(png, f"{tag} of {run.name} at step {step}")
            caption = f"{tag}, step {step:,}. {_description(png)}".removesuffix(". ")
            figures += (
                f"<figure>\n<figcaption>{escape(caption)}</figcaption>\n"
                f"{image}\n</figure>\n"
            )
        if figures:
            name = escape(run.name)
            parts.append(f'<h3>{name}</h3>\n<div class="pictures">{figures}</div>')
    return "\n".join(parts)


def _image(png: bytes, text: str) -> str:
    """A picture, and the text that a screen reader says."""
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(text)}">'


def _description(png: bytes) -> str:
    """The description that a run writes into its pictures."""
    with contextlib.suppress(OSError, ValueError, SyntaxError):  # a damaged file
        return str(Image.open(io.BytesIO(png)).info.get("Description", ""))
    return ""
