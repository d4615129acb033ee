"""Kills studies, with all their processes, and compares every run and the table."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from aelab.errors import TrainingError
from soaking.comparison import differences
from soaking.runs import Tally

_STUDY = Path(__file__).parents[2] / "scripts" / "study.py"
_HANG_SECONDS = 900.0
_TIMES = ("minutes",)  # columns of the table that may differ


def soak_study(
    name: str, flags: list[str], kills: int, seed: int, folder: Path
) -> Tally:
    """Kills a study `kills` times at random moments, and then lets it end.

    A study that ends before is followed by another. All runs and tables must be equal
    to those of a study that was not killed.
    """
    started, tally = time.monotonic(), Tally(name)
    generator = random.Random(f"{seed} {name}")
    reference = folder / "reference"
    seconds = _finish(reference, flags)
    print(f"{name}: the reference study is complete ({seconds:.0f} s)", flush=True)
    while tally.stops.total() < kills:
        study = folder / f"study-{tally.compared + 1}"
        while tally.stops.total() < kills:
            tally.processes += 1
            code = _kill(study, flags, generator.uniform(0, seconds))
            if code is not None:
                if code:
                    text = f"exit code {code} of a resumed study; see {study}.log"
                    tally.add_losses(study, [text])
                break
            tally.stops["SIGKILL"] += 1
        _finish(study, flags)
        tally.processes += 1
        _compare(study, reference, tally)
    tally.seconds = time.monotonic() - started
    return tally


def _start(study: Path, flags: list[str]) -> "subprocess.Popen[bytes]":
    study.parent.mkdir(exist_ok=True)
    command = [sys.executable, str(_STUDY), f"--study_dir={study}", *flags]
    with open(f"{study}.log", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _finish(study: Path, flags: list[str]) -> float:
    """Runs a study to its end; returns how many seconds it took."""
    started = time.monotonic()
    process = _start(study, flags)
    if code := process.wait(_HANG_SECONDS):
        raise TrainingError(f"exit code {code} of a study; see {study}.log")
    return time.monotonic() - started


def _kill(study: Path, flags: list[str], seconds: float) -> int | None:
    """Kills a study and its processes after some seconds.

    Returns its exit code if it ended before.
    """
    process = _start(study, flags)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _compare(study: Path, reference: Path, tally: Tally) -> None:
    """Compares a complete study with the reference."""
    for expected in sorted(reference.glob("runs/*/*")):
        run = study / expected.relative_to(reference)
        tally.add_losses(run, differences(run, expected))
        tally.compared += 1
    if _table(study) != _table(reference):
        tally.add_losses(study, ["its table is another one"])


def _table(study: Path) -> list[dict[str, str]]:
    """The rows of `table.csv` without times."""
    with open(study / "table.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in _TIMES} for row in rows]
