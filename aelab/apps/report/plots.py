"""Curves drawn by matplotlib, as SVG that stands in a page and takes its colours."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aelab.apps.report.curves import Curve, thin_out
from aelab.errors import UsageError

NUM_COLORS = 6  # that the page's style defines, as --run-0 and so on
DASHES: tuple[tuple[float, ...], ...] = ((), (7, 3), (2, 2))  # points drawn, left out
MOST_RUNS = NUM_COLORS * len(DASHES)

_INCHES = (5.6, 3.3)
_MOST_DOTTED = 60
_LOG_FROM = 30  # how many times the lowest figure the highest is
_ONLY_DECADES_FROM = 200
_LOG_FIGURES = ("loss", "bce", "mse", "gradient_norm", "loss_scale", "learning_rate")
# Stand in the SVG for colours of the page's style.
_INK, _GRID, _RUN = "#010101", "#020202", "#0300{:02x}"
_STYLE: dict[str, Any] = {
    "axes.edgecolor": _INK,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 12,
    "grid.color": _GRID,
    "lines.markersize": 3.5,
    "lines.scale_dashes": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "aelab",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Line:
    """A curve and whose it is.

    Attributes:
      run: the number of the run, which says how it is drawn.
      split: `train`, drawn thin, or `eval`.
      curve: what is drawn.
    """

    run: int
    split: str
    curve: Curve


def require_matplotlib() -> None:
    """Checks that matplotlib is there.

    Raises:
      UsageError: it is not; the message says how to install it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "a report is drawn by matplotlib, which can't be imported "
            f"({error}): pip install -e '.[report]'"
        ) from None


def draw(lines: Sequence[Line], figure_name: str, axis: str) -> str:
    """Draws one figure of all runs.

    Args:
      lines: what to draw, at least one point that is no gap.
      figure_name: of `metrics.jsonl`; of some the axis is logarithmic.
      axis: what stands below.

    Returns:
      An `svg` element with colours `var(--ink)`, `var(--grid)`, `var(--run-N)`; each
      line is in an element of the id `NAME-SPLIT-RUN`.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):
        figure = Figure(_INCHES, layout="constrained")
        axes = figure.add_subplot()
        for line in lines:
            _plot(axes, line)
        axes.set_xlabel(axis)
        if figure_name in _LOG_FIGURES:
            _scale(axes, lines, by_peaks=figure_name == "learning_rate")
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    return _for_page(file.getvalue(), figure_name)


def _plot(axes: Any, line: Line) -> None:
    """Draws one line; a point that no line reaches is a dot."""
    curve = thin_out(line.curve)
    is_eval = line.split == "eval"
    is_gap = np.concatenate([[True], np.isnan(curve.y), [True]])
    lonely = np.flatnonzero(~is_gap[1:-1] & is_gap[:-2] & is_gap[2:])
    dots = slice(None) if is_eval and len(curve.y) <= _MOST_DOTTED else lonely.tolist()
    axes.plot(
        curve.x,
        curve.y,
        color=_RUN.format(line.run % NUM_COLORS),
        linestyle=(0, DASHES[line.run // NUM_COLORS] or None),
        linewidth=1.8 if is_eval else 0.9,
        alpha=1.0 if is_eval else 0.6,
        marker="o",
        markevery=dots,
        gid=f"{line.split}-{line.run}",
    )


def _scale(axes: Any, lines: Sequence[Line], by_peaks: bool) -> None:
    """Makes the axis logarithmic if figures, or their peaks, lie decades apart.

    The peaks count for a learning rate, as one that falls to 0 has no lowest figure.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    extreme = np.nanmax if by_peaks else np.nanmin
    low = min(float(extreme(line.curve.y)) for line in lines)
    high = max(float(np.nanmax(line.curve.y)) for line in lines)
    if low <= 0 or high / low <= _LOG_FROM:
        return
    axes.set_yscale("log")
    if by_peaks:
        axes.set_ylim(bottom=low / 10)
    between = (1, 2, 5) if high / low < _ONLY_DECADES_FROM else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=between))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _for_page(svg: str, name: str) -> str:
    """The `svg` element alone, with ids and colours that fit in a page."""
    head, end, rest = svg[svg.index("<svg") :].partition(">")
    # In HTML an element's name says enough; its size comes from the page.
    head = re.sub(r' (xmlns(:xlink)?|width|height|version)="[^"]*"', "", head)
    prefix = re.sub(r"\W", "_", name, flags=re.ASCII)
    rest = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", rest)
    colors = {_INK: "ink", _GRID: "grid"}
    colors |= {_RUN.format(number): f"run-{number}" for number in range(NUM_COLORS)}
    for color, variable in colors.items():
        rest = rest.replace(color, f"var(--{variable})")
    return head + end + rest
