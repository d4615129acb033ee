"""The state of a run of a study, read from its folder without TensorFlow.

The folder is the truth: a study keeps no list of its own of what is done.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from aelab.config import Config
from aelab.errors import UsageError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.training.plan import Plan, Progress

MISSING, STARTED, FINISHED, DIVERGED = "missing", "started", "finished", "diverged"
PRUNED = "pruned"
_MAX_LINES = 200  # of metrics.jsonl that are parsed for a curve


class RunState(NamedTuple):
    """Where a run is.

    Attributes:
      kind: MISSING: it does not exist. STARTED: it can be resumed. FINISHED: nothing is
        left to do. DIVERGED: a loss or gradient was not finite. PRUNED: a search has
        stopped it; its folder says STARTED.
      step: of its newest checkpoint, or the step at which it diverged.
      best_step: of its best checkpoint; 0 if there is none.
      parameters: the number of weights; 0 if there is no checkpoint.
    """

    kind: str
    step: int = 0
    best_step: int = 0
    parameters: int = 0


class Curve(NamedTuple):
    """A run's metrics over its training.

    Attributes:
      best: the metrics of the evaluation at the best step; empty if there is none.
      epochs, values: up to 200 evaluations, and their values by metric.
      images_per_second: the median of the training's speed; NaN if it is not known.
    """

    best: dict[str, float]
    epochs: list[float]
    values: dict[str, list[float]]
    images_per_second: float


def run_state(path: str, config: Config) -> RunState:
    """The state of the run in the folder `path`, which trains `config`.

    A run whose files are damaged counts as STARTED: training says what is wrong.
    """
    run = RunDirectory(path)
    if not os.path.lexists(run.config_json):
        return RunState(MISSING)
    try:
        newest = checkpoints.newest(run.latest)
        arrays = checkpoints.load(newest) if newest else {}
        found = {n: a for n, a in arrays.items() if n.startswith("progress/")}
        progress = Progress(**{n[9:]: a.item() for n, a in found.items()})
        step = int(arrays.get("step", 0))
        examples = int(str(run.read_data()["train"]).split()[0])
    except (OSError, UsageError, LookupError, ValueError, TypeError):
        return RunState(STARTED)
    weights = sum(a.size for n, a in arrays.items() if n.startswith("model/"))
    about = (progress.best_step, weights)
    try:
        with open(run.not_finite_json, encoding="utf-8") as file:
            return RunState(DIVERGED, int(json.load(file)["step"]), *about)
    except (OSError, ValueError, LookupError, TypeError):
        is_complete = Plan(config, examples).is_complete(step, progress)
        return RunState(FINISHED if is_complete else STARTED, step, *about)


def read_curve(path: str, best_step: int) -> Curve:
    """The curve of the run in the folder `path`; damaged lines are left out."""
    try:
        with open(RunDirectory(path).metrics_jsonl, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        lines = []
    is_eval = [b'"eval"' in line for line in lines]
    evaluations = [line for line, found in zip(lines, is_eval, strict=True) if found]
    trained = [line for line, found in zip(lines, is_eval, strict=True) if not found]
    number = str(best_step).encode()
    best: dict[str, float] = {}
    for line in _parsed(line for line in evaluations if number in line):
        if line.get("step") == best_step:
            best = {n: v for n, v in line.items() if _is_metric(n, v)}
    shown = _parsed(_spread(evaluations))
    names = {n for line in shown for n, v in line.items() if _is_metric(n, v)}
    values = {name: [_number(line, name) for line in shown] for name in names}
    epochs = [_number(line, "epoch") for line in shown]
    rates = [_number(line, "images_per_second") for line in _parsed(_spread(trained))]
    known = [rate for rate in rates if math.isfinite(rate)]
    return Curve(best, epochs, values, float(np.median(known)) if known else math.nan)


def read_evaluations(path: str, metric: str) -> list[float]:
    """A metric in each evaluation of the run in the folder `path`, NaN if unknown."""
    try:
        with open(RunDirectory(path).metrics_jsonl, "rb") as file:
            *lines, _ = file.read().split(b"\n")  # the last may not be whole
    except OSError:
        return []
    found = _parsed(line for line in lines if b'"eval"' in line)
    return [_number(line, metric) for line in found]


def read_tested(path: str, state: RunState) -> dict[str, float]:
    """The metrics of the test part in the run's `evaluation.json`.

    They are of the best checkpoint; empty if there are none.
    """
    try:
        with open(RunDirectory(path).evaluation_json, encoding="utf-8") as file:
            found = json.load(file)
        is_right = (found["checkpoint"], found["step"]) == ("best", state.best_step)
        is_own = found["data"]["as_in_training"] is not False
        if is_right and is_own and found.get("split", "test") == "test":
            return {str(n): float(v) for n, v in found["metrics"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return {}


def _spread(lines: Sequence[bytes]) -> Iterator[bytes]:
    """The first and the last of `lines`, and some at equal distances between them."""
    count = min(len(lines), _MAX_LINES)
    for number in range(count):
        yield lines[number * (len(lines) - 1) // max(count - 1, 1)]


def _parsed(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The JSON objects in `lines`."""
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            values = json.loads(line)
            if isinstance(values, dict):
                found.append(values)
    return found


def _number(line: dict[str, Any], name: str) -> float:
    """A value of a line of metrics; NaN if it is missing or null."""
    value = line.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


def _is_metric(name: str, value: Any) -> bool:
    return name not in ("step", "epoch") and isinstance(value, int | float)
