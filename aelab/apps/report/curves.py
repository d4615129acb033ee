"""The metrics of `metrics.jsonl` as curves."""

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
MAX_POINTS = 2000
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Curve:
    """One metric of one split over a run: float64 [n] each."""

    x: np.ndarray  # epochs, rounded, so that several steps may share one; or steps
    y: np.ndarray  # NaN in a gap
    steps: np.ndarray

    def is_drawn(self) -> bool:
        """True if the curve has a point that is not a gap."""
        return not bool(np.isnan(self.y).all())

    def lowest(self) -> tuple[float, float, float] | tuple[None, None, None]:
        """x, y and step of the lowest point; None for each if nothing is drawn."""
        if not self.is_drawn():
            return None, None, None
        index = np.nanargmin(self.y)
        return float(self.x[index]), float(self.y[index]), float(self.steps[index])

    def median(self) -> float | None:
        """The median of y; None if nothing is drawn."""
        return float(np.nanmedian(self.y)) if self.is_drawn() else None

    def at(self, step: float | None) -> float | None:
        """The last value at a step; None without a value."""
        values = self.y[(self.steps == step) & ~np.isnan(self.y)]
        return float(values[-1]) if values.size else None


EMPTY = Curve(*np.empty((3, 0)))
Curves = dict[tuple[str, str], Curve]


def read_curves(path: str, axis: str) -> tuple[Curves, list[int]]:
    """Reads a `metrics.jsonl`, which may still grow; raises OSError if that fails.

    A last line without its end is ignored: it is still being written. A value that is
    `null`, not finite or beyond float32 is a gap. x is `axis`, one of `AXES`. Returns
    the curves by (split, metric), and the numbers, from 1, of the damaged lines.
    """
    points: defaultdict[tuple[str, str], tuple[array[float], ...]]
    points = defaultdict(lambda: (array("d"), array("d"), array("d")))
    damaged = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                split, positions, metrics = _parse(line)
            except (ValueError, TypeError, LookupError, RecursionError):
                damaged.append(number)
                continue
            for name, value in metrics.items():
                row = (positions[axis], value, positions["step"])
                for column, position in zip(points[split, name], row, strict=True):
                    column.append(position)
    curves = {key: Curve(*map(np.array, columns)) for key, columns in points.items()}
    return curves, damaged


def _parse(line: bytes) -> tuple[str, dict[str, float], dict[str, float]]:
    """Split, positions on the axes, and metrics of a line."""
    values = json.loads(line)
    if not isinstance(values, dict):
        raise TypeError
    split = values.pop("split")
    positions = {name: _number(values.pop(name)) for name in AXES}
    if split not in SPLITS or not all(map(math.isfinite, positions.values())):
        raise ValueError
    return split, positions, {key: _number(v) for key, v in values.items()}


def _number(value: Any) -> float:
    """The number of a JSON value; NaN for a gap."""
    if value is None:
        return math.nan
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError
    return float(value) if abs(value) <= _LARGEST else math.nan


def thin_out(curve: Curve, max_points: int = MAX_POINTS) -> Curve:
    """A curve of at most `max_points` points, at least 5, that looks the same.

    Keeps both ends, and of each of equally long parts the lowest point, the highest
    point and the first gap, so that no spike is lost (similar to M4, Jugel et al.
    2014).
    """
    length = len(curve.y)
    if length <= max_points:
        return curve
    indices = [0, length - 1]
    borders = np.linspace(0, length, (max_points - 2) // 3 + 1).astype(int)
    for begin, end in itertools.pairwise(borders):
        part = curve.y[begin:end]
        is_gap = np.isnan(part)
        if is_gap.any():
            indices.append(begin + is_gap.argmax())
        if not is_gap.all():
            indices += [begin + np.nanargmin(part), begin + np.nanargmax(part)]
    index = np.unique(indices)
    return Curve(curve.x[index], curve.y[index], curve.steps[index])
