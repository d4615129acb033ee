"""The picture of a study: a metric of each seed, and its curves."""

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from aelab.apps.study.results import VariantResult
from aelab.apps.study.state import DIVERGED
from aelab.apps.study.statistics import mean_interval, summarize
from aelab.apps.study.wording import count_text
from aelab.metric_info import METRICS, heading
from aelab.system.console import printable
from aelab.system.optional import require

# The colors of a report's page, distinct with any color vision.
_COLORS = ("#0072b2", "#d1510a", "#00855f", "#a8478a", "#9a6a00", "#1b1f24")
_OTHERS = "#a9b1ba"  # variants beyond these
_INK, _FAINT, _GRID = "#1b1f24", "#59636e", "#dfe3e8"
_NAME_WIDTH = 36  # characters in a line of a name
_WARM_UP = 0.25  # the share of training whose values may lie outside of the picture
_MAX_DOTTED = 20  # evaluations of a curve that are marked with dots
_MIN_LOG_RATIO = 30  # of the highest and the lowest value, for a logarithmic axis
_STYLE: dict[str, Any] = {
    **dict.fromkeys(("axes.edgecolor", "xtick.color"), _FAINT),
    **dict.fromkeys(("axes.labelcolor", "text.color", "ytick.color"), _INK),
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": _GRID,
}


class _Band(NamedTuple):
    """Mean, lowest and highest value of a variant's seeds over the epochs."""

    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def draw_study(
    variants: Sequence[VariantResult], metric: str, baseline: str, on_test: bool
) -> bytes:
    """A PNG with two panels.

    Left, a row for each variant: the metric of each seed, their mean and its 95 %
    interval. Right: the metric on the part that validates over the epochs, the mean of
    the seeds in a band from the lowest to the highest. With more than six variants only
    the baseline and the best five have colors.

    Raises:
      UsageError: matplotlib, or SciPy with several seeds, is not installed.
    """
    figure_class = require("matplotlib.figure", extra="study").Figure
    style = require("matplotlib.style", extra="study")
    colors = _choose_colors(variants, metric, baseline, on_test)
    with style.context(["default", _STYLE]):
        labels = [_label(variant) for variant in variants]
        lines = len(labels) * max(label.count("\n") + 1.6 for label in labels)
        figure = figure_class(figsize=(12, max(3.6, 1.2 + 0.17 * lines)))
        figure.set_layout_engine("constrained", wspace=0.04)
        left, right = figure.subplots(1, 2)
        _draw_points(left, variants, metric, on_test, colors)
        left.set_yticks(range(len(variants)), labels)
        for text, color in zip(left.get_yticklabels(), colors, strict=True):
            text.set_color(_FAINT if color == _OTHERS else color)
        _draw_curves(right, variants, metric, colors)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return file.getvalue()


def _choose_colors(
    variants: Sequence[VariantResult], metric: str, baseline: str, on_test: bool
) -> list[str]:
    """A color for each variant: its own, or the one that all others share."""
    is_lower = metric in METRICS and METRICS[metric].better == "lower"

    def badness(variant: VariantResult, on_test: bool) -> float:
        """A key that sorts the best variant first."""
        mean = summarize([run.value(metric, on_test) for run in variant.runs]).mean
        return math.inf if math.isnan(mean) else mean if is_lower else -mean

    def rank(number: int) -> tuple[bool, float, float]:
        """Sorts the baseline first; of a search only the best trials are tested."""
        variant = variants[number]
        order = badness(variant, on_test), badness(variant, on_test=False)
        return variant.name != baseline, *order

    first = sorted(sorted(range(len(variants)), key=rank)[: len(_COLORS)])
    chosen = dict(zip(first, _COLORS, strict=False))
    return [chosen.get(number, _OTHERS) for number in range(len(variants))]


def _label(variant: VariantResult) -> str:
    """The name in short lines, and which seeds are missing."""
    spaced = printable(variant.name).replace(",", ", ")
    options: Any = {"max_lines": 3, "placeholder": " ...", "break_on_hyphens": False}
    lines = textwrap.wrap(spaced, _NAME_WIDTH, **options)
    if (count := count_text(variant)) != str(len(variant.runs)):
        lines.append(f"({count})")
    return "\n".join(lines)


def _draw_points(
    axes: Any,
    variants: Sequence[VariantResult],
    metric: str,
    on_test: bool,
    colors: Sequence[str],
) -> None:
    """Draws the seeds as points, the mean as a line across, the interval as a bar."""
    shown, intervals = [], []
    for row, (variant, color) in enumerate(zip(variants, colors, strict=True)):
        values = [run.value(metric, on_test) for run in variant.runs]
        summary = summarize(values)
        intervals.append(mean_interval(summary))
        if summary.n > 1:
            axes.plot(intervals[-1], [row, row], color=color, linewidth=2)
            axes.plot(summary.mean, row, "|", color=color, ms=14, mew=2.5)
        point = {"markersize": 6, "markerfacecolor": "white", "markeredgewidth": 1.3}
        axes.plot(values, [row] * len(values), "o", color=color, zorder=3, **point)
        shown += [value for value in values if math.isfinite(value)]
    if not shown:
        _say_empty(axes, "not evaluated yet" if on_test else "no run has finished yet")
    elif (length := max(shown) - min(shown)) > 0:
        # The interval of two seeds may be many times as long.
        low, high = axes.get_xlim()
        ends = max(low, min(shown) - length), min(high, max(shown) + length)
        axes.set_xlim(ends)
        _draw_arrows(axes, intervals, colors, ends)
    axes.set_ylim(len(variants) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x")
    axes.spines.left.set_visible(False)
    part = " (test part)" if on_test else ""
    axes.set_xlabel(heading(metric) + part)
    axes.set_title("Seeds, their mean and its 95 % interval", loc="left", fontsize=10)


def _draw_arrows(
    axes: Any,
    intervals: Sequence[tuple[float, float]],
    colors: Sequence[str],
    ends: tuple[float, float],
) -> None:
    """Draws an arrow where the interval of a row extends beyond the axis."""
    for row, ((low, high), color) in enumerate(zip(intervals, colors, strict=True)):
        for marker, end, is_cut in (("<", 0, low < ends[0]), (">", 1, high > ends[1])):
            if is_cut:
                axes.plot(ends[end], row, marker, color=color, ms=9, clip_on=False)


def _draw_curves(
    axes: Any, variants: Sequence[VariantResult], metric: str, colors: Sequence[str]
) -> None:
    """Draws the mean of the seeds over the epochs, and a band around it."""
    bands = [_band(variant, metric) for variant in variants]
    drawn = [(band, color) for band, color in zip(bands, colors, strict=True) if band]
    # The colored ones come last, on top.
    for band, color in sorted(drawn, key=lambda pair: pair[1] != _OTHERS):
        is_colored, x = color != _OTHERS, band.epochs
        style = {"color": color, "linewidth": 1.8 if is_colored else 1.0}
        dots = {"marker": "o", "markersize": 3} if len(x) <= _MAX_DOTTED else {}
        axes.plot(x, band.mean, **style, **dots)
        if is_colored:
            area = {"color": color, "alpha": 0.18, "linewidth": 0}
            axes.fill_between(x, band.low, band.high, **area)
    if not drawn:
        _say_empty(axes, "no evaluation yet")
    _set_limits(axes, [band for band, _ in drawn], metric)
    axes.grid()
    axes.set_xlabel("epoch")
    axes.set_ylabel(heading(metric))
    colored = "\nIn color: the baseline and the best five" * (_OTHERS in colors)
    title = f"Part that validates: mean and range of the seeds{colored}"
    axes.set_title(title, loc="left", fontsize=10)


def _say_empty(axes: Any, text: str) -> None:
    axes.set(xticks=[], yticks=[])
    place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, text, color=_FAINT, **place)


def _band(variant: VariantResult, metric: str) -> _Band | None:
    """The curves of the seeds in one; None if there are none.

    Between its evaluations a curve is linear. A seed that ended early counts to its
    end, and one that diverged counts only if all did.
    """
    steady = [run for run in variant.runs if run.state.kind != DIVERGED]
    curves = []
    for run in steady or variant.runs:
        x = np.array(run.curve.epochs)
        y = np.array(run.curve.values.get(metric, []))
        if len(y):
            known = np.isfinite(x) & np.isfinite(y)
            curves.append((x[known], y[known]))
    if not any(len(x) for x, _ in curves):
        return None
    epochs = np.unique(np.concatenate([x for x, _ in curves]))
    ends = {"left": np.nan, "right": np.nan}
    table = np.array([np.interp(epochs, x, y, **ends) for x, y in curves if len(x)])
    low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    return _Band(epochs, np.nanmean(table, axis=0), low, high)


def _set_limits(axes: Any, bands: Sequence[_Band], metric: str) -> None:
    """Shows the curves, but not all of their steep beginning."""
    if not bands:
        return
    start = _WARM_UP * max(band.epochs[-1] for band in bands)
    late = [band for band in bands if band.epochs[-1] >= start]
    low = min(band.low[band.epochs >= start].min() for band in late)
    high = max(band.high[band.epochs >= start].max() for band in late)
    is_log = metric in METRICS and METRICS[metric].scale == "log"
    if is_log and 0 < low < high / _MIN_LOG_RATIO:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
    elif low < high:
        margin = 0.08 * (high - low)
        axes.set_ylim(low - margin, high + margin)
