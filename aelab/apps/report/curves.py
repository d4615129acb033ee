"""The figures of `metrics.jsonl` as curves."""

import itertools
import json
import math
from array import array
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from aelab.runs.directory import SPLITS

AXES = ("epoch", "step")
MOST_POINTS = 2000
_LARGEST = float(np.finfo(np.float32).max)

Curves = dict[tuple[str, str], "Curve"]


@dataclass(frozen=True)
class Curve:
    """One figure of one split, over a run.

    Attributes:
      x: float64 [n], epochs or steps.
      y: float64 [n], not a number where there is a gap.
      steps: float64 [n]; of a long run several have one epoch, rounded as it is.
    """

    x: np.ndarray
    y: np.ndarray
    steps: np.ndarray


def read_curves(path: str, axis: str) -> tuple[Curves, list[int]]:
    """Reads a `metrics.jsonl`, which may still grow.

    What stands behind the last line end is passed by: it is being written. A figure
    that is `null`, not finite or beyond float32 is a gap.

    Args:
      path: the file.
      axis: what x is, one of `AXES`.

    Returns:
      The curves by (split, name of the figure), and the numbers, from 1, of the lines
      that are no figures.

    Raises:
      OSError: the file can't be read.
    """
    points: defaultdict[tuple[str, str], tuple[array[float], ...]]
    points = defaultdict(lambda: (array("d"), array("d"), array("d")))
    damaged = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                split, positions, figures = _parse(line)
            except (ValueError, TypeError, LookupError, RecursionError):
                damaged.append(number)
                continue
            for name, figure in figures.items():
                x, y, steps = points[split, name]
                x.append(positions[axis])
                y.append(figure)
                steps.append(positions["step"])
    curves = {key: Curve(*map(np.array, columns)) for key, columns in points.items()}
    return curves, damaged


def _parse(line: bytes) -> tuple[str, dict[str, float], dict[str, float]]:
    """Split, positions on the axes and figures of a line."""
    values = json.loads(line)
    if not isinstance(values, dict):
        raise TypeError
    split = values.pop("split")
    positions = {name: _number(values.pop(name)) for name in AXES}
    if split not in SPLITS or not all(map(math.isfinite, positions.values())):
        raise ValueError
    return split, positions, {key: _number(v) for key, v in values.items()}


def _number(value: Any) -> float:
    """A figure of a line, not a number where it is a gap."""
    if value is None:
        return math.nan
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError
    return float(value) if abs(value) <= _LARGEST else math.nan


def thin_out(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """A curve of at most `most` points that looks the same.

    Of each of equally long parts the lowest, the highest point and the first gap stay,
    so that no spike is lost (as M4 does, Jugel et al. 2014), and both ends.

    Args:
      curve: any.
      most: at least 5.
    """
    length = len(curve.y)
    if length <= most:
        return curve
    kept = {0, length - 1}
    borders = np.linspace(0, length, (most - 2) // 3 + 1).astype(int)
    for begin, end in itertools.pairwise(borders):
        part = curve.y[begin:end]
        is_gap = np.isnan(part)
        if is_gap.any():
            kept.add(int(begin + is_gap.argmax()))
        if not is_gap.all():
            kept |= {int(begin + np.nanargmin(part)), int(begin + np.nanargmax(part))}
    index = sorted(kept)
    return Curve(curve.x[index], curve.y[index], curve.steps[index])


def is_drawn(curve: Curve | None) -> bool:
    """Whether there is a curve that is more than gaps."""
    return curve is not None and not bool(np.isnan(curve.y).all())


def lowest(curve: Curve | None) -> tuple[float, float, float] | None:
    """x, y and step where a curve is lowest, None if nothing is drawn."""
    if curve is None or not is_drawn(curve):
        return None
    found = np.nanargmin(curve.y)
    return float(curve.x[found]), float(curve.y[found]), float(curve.steps[found])


def median(curve: Curve | None) -> float | None:
    """The median of a curve's figures, None if nothing is drawn."""
    if curve is None or not is_drawn(curve):
        return None
    return float(np.nanmedian(curve.y))


def at(curve: Curve | None, step: float | None) -> float | None:
    """The last figure of a curve at a step, None if there is none."""
    if curve is None:
        return None
    found = curve.y[(curve.steps == step) & ~np.isnan(curve.y)]
    return float(found[-1]) if found.size else None
