"""Measures what it costs to go on with a long run."""

import json
import shutil
import statistics
import time
from pathlib import Path

import numpy as np

from aelab.errors import TrainingError
from aelab.runs import checkpoints
from soaking.runs import Run

STEPS = (100, 10_000_000)
_LINES = 100_000
_TURNS = 3
_MORE_STEPS = 20


def resume_cost(flags: list[str], folder: Path) -> dict[int, float]:
    """Seconds from the start to the end of a process that trains 20 steps more.

    Args:
      flags: of train.py.
      folder: for the run directories.

    Returns:
      The median by the step at which it goes on; at the second, `metrics.jsonl` has
      100,000 lines.

    Raises:
      TrainingError: a run did not end well.
    """
    flags = [*flags, "--learning_rate_schedule=constant"]
    short = Run(folder / "short", [*flags, "--train_steps=40"])
    if short.finish():
        raise TrainingError(short.errors())
    seconds: dict[int, list[float]] = {step: [] for step in STEPS}
    for _ in range(_TURNS):
        for step in STEPS:
            run = Run(
                folder / f"at-{step}", [*flags, f"--train_steps={step + _MORE_STEPS}"]
            )
            _make_older(short.path, run.path, step)
            started = time.monotonic()
            code = run.finish()
            seconds[step].append(time.monotonic() - started)
            if code or f"at step {step} " not in run.output():
                raise TrainingError(f"{run.path}: {code}: {run.errors()}")
            shutil.rmtree(run.path)
    return {step: statistics.median(times) for step, times in seconds.items()}


def _make_older(short: Path, path: Path, step: int) -> None:
    """Copies a run, and has it stand at `step`."""
    shutil.copytree(short, path)
    for kind in ("latest", "best"):
        folder = str(path / "checkpoints" / kind)
        newest = checkpoints.newest(folder)
        if newest is None:
            raise TrainingError(f"{folder} has no checkpoint")
        arrays = checkpoints.load(newest)
        for name, array in arrays.items():
            if name == "step" or (name.startswith("progress/") and "_step" in name):
                arrays[name] = np.full_like(array, step)
        for old in checkpoints.all_of(folder):
            Path(old).unlink()
        checkpoints.save(folder, step, arrays)
    if step > _LINES:
        _make_lines(path / "metrics.jsonl", step)


def _make_lines(path: Path, step: int) -> None:
    """Writes the figures of a long run: one line's, over and over."""
    lines = map(json.loads, path.read_text().splitlines())
    values = next(line for line in lines if line["split"] == "train")
    with path.open("w") as file:
        for number in range(1, _LINES + 1):
            file.write(json.dumps(values | {"step": number * step // _LINES}) + "\n")
