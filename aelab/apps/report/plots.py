"""Draws curves with matplotlib: SVG in the colors of the page."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aelab.apps.report.curves import Curve, thin_out
from aelab.metric_info import METRICS

NUM_COLORS = 6  # colors --run-0, --run-1 and so on of the page's style
DASHES: tuple[tuple[float, ...], ...] = ((), (7, 3), (2, 2))  # points on, points off
MAX_RUNS = NUM_COLORS * len(DASHES)

_INCHES = (5.6, 3.3)
_MAX_DOTTED = 60
_MIN_LOG_RATIO = 30  # of the highest and the lowest value
_MIN_DECADES_RATIO = 200  # from here only powers of ten are labeled
# Placeholders in the SVG for the colors of the page's style.
_INK, _GRID, _RUN = "#010101", "#020202", "#0300{:02x}"
_STYLE: dict[str, Any] = {
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 12,
    "grid.color": _GRID,
    "lines.markersize": 3.5,
    "lines.scale_dashes": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "aelab",
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Line:
    """A curve, its split, and its run's number, which determines color and dashes."""

    run: int
    split: str
    curve: Curve


def draw(lines: Sequence[Line], metric: str, axis: str) -> str:
    """An `svg` element with one metric of all runs.

    Each line must be drawn, and is in an element with the id `METRIC-SPLIT-RUN`. The
    metric's name in `metrics.jsonl` determines the scale. The colors are `var(--ink)`,
    `var(--grid)` and `var(--run-N)`.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):
        figure = Figure(_INCHES, layout="constrained")
        axes = figure.add_subplot()
        for line in lines:
            _plot(axes, line)
        axes.set_xlabel(axis)
        if metric in METRICS and METRICS[metric].scale == "log":
            # A learning rate may fall to 0, so its lowest value says nothing.
            _scale(axes, lines, by_peaks=metric == "learning_rate")
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    return _for_page(file.getvalue(), metric)


def _plot(axes: Any, line: Line) -> None:
    """Draws one line, thin for training; a point between two gaps becomes a dot."""
    curve = thin_out(line.curve)
    is_eval = line.split == "eval"
    is_gap = np.concatenate([[True], np.isnan(curve.y), [True]])
    isolated = np.flatnonzero(~is_gap[1:-1] & is_gap[:-2] & is_gap[2:])
    has_dots = is_eval and len(curve.y) <= _MAX_DOTTED
    axes.plot(
        curve.x,
        curve.y,
        color=_RUN.format(line.run % NUM_COLORS),
        linestyle=(0, DASHES[line.run // NUM_COLORS] or None),
        linewidth=1.8 if is_eval else 0.9,
        alpha=1.0 if is_eval else 0.6,
        marker="o",
        markevery=slice(None) if has_dots else isolated.tolist(),
        gid=f"{line.split}-{line.run}",
    )


def _scale(axes: Any, lines: Sequence[Line], by_peaks: bool) -> None:
    """Makes the y-axis logarithmic if values, or the peaks, lie decades apart."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    extreme = np.nanmax if by_peaks else np.nanmin
    low = min(float(extreme(line.curve.y)) for line in lines)
    high = max(float(np.nanmax(line.curve.y)) for line in lines)
    if low <= 0 or high / low <= _MIN_LOG_RATIO:
        return
    axes.set_yscale("log")
    if by_peaks:
        axes.set_ylim(bottom=low / 10)
    between = (1, 2, 5) if high / low < _MIN_DECADES_RATIO else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=between))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _for_page(svg: str, name: str) -> str:
    """Only the `svg` element, with ids and colors that fit into a page."""
    head, end, rest = svg[svg.index("<svg") :].partition(">")
    # HTML does not need namespaces, and the page sets the size.
    head = re.sub(r' (xmlns(:xlink)?|width|height|version)="[^"]*"', "", head)
    prefix = re.sub(r"\W", "_", name, flags=re.ASCII)
    rest = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", rest)
    runs = [(_RUN.format(number), f"run-{number}") for number in range(NUM_COLORS)]
    for color, variable in [(_INK, "ink"), (_GRID, "grid"), *runs]:
        rest = rest.replace(color, f"var(--{variable})")
    return head + end + rest
