"""Measures the time from a command to its help, first training step and end."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import file_size, markdown_table, spread

from benchmarking.machine import describe, machine_text

_SCRIPTS = Path(__file__).parents[2] / "scripts"
_TURNS = 3
_POLL_SECONDS = 0.005
_HANG_SECONDS = 600.0
_TRAIN = [
    *("--dataset=synthetic", "--train_examples=60000", "--eval_examples=100"),
    *("--train_steps=1", "--log_every_steps=1", "--model=conv"),
]
_TRAIN_TIMES = {
    "file": "`train.py`, until the metrics of its first step are written",
    "end": "`train.py` of one step, until its end",
}


def run(flags: Any, folder: Path) -> dict[str, Any]:
    """Times each command three times, in turn; `folder` is for the run directories.

    Returns `machine`, and `records`: `what` with `seconds`, or with `error`.
    """
    records: list[dict[str, Any]] = []
    for turn in range(_TURNS):
        for script in sorted(_SCRIPTS.glob("*.py")):
            names = {"end": f"`{script.name} --help`"}
            records += _timed([str(script), "--help"], folder, names)
        run_dir = folder / f"run-{turn}"
        command = [str(_SCRIPTS / "train.py"), *_TRAIN, f"--run_dir={run_dir}"]
        records += _timed(command, folder, _TRAIN_TIMES, run_dir / "metrics.jsonl")
    return {"machine": describe("cpu"), "records": records}


def text(report: dict[str, Any]) -> str:
    """The table of a report."""
    rows = []
    for name in dict.fromkeys(record["what"] for record in report["records"]):
        records = [record for record in report["records"] if record["what"] == name]
        times = [record["seconds"] for record in records if "seconds" in record]
        errors = [record["error"] for record in records if "error" in record]
        rows.append([name, f"failed: {errors[-1]}" if errors else spread(times)])
    return (
        f"{markdown_table(('command', 'seconds'), rows)}\n\n"
        f"Medians of {_TURNS} turns (minimum to maximum).\n\n"
        f"{machine_text(report['machine'])}"
    )


def _timed(
    arguments: list[str], folder: Path, names: dict[str, str], file: Path | None = None
) -> list[dict[str, Any]]:
    """Runs a script and prints its records.

    `names` has a `what` for the `end`, and for the moment when the `file` has content.
    """
    log, times, error = folder / "log", {}, "it ended without writing anything"
    command, started = [sys.executable, *arguments], time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        while process.poll() is None and time.perf_counter() - started < _HANG_SECONDS:
            if file and "file" not in times and file_size(file):
                times["file"] = time.perf_counter() - started
            time.sleep(_POLL_SECONDS)
        times["end"] = time.perf_counter() - started
    finally:
        process.kill()
        code = process.wait()
    if code:
        last_line = log.read_text(errors="replace").strip().rpartition("\n")[2]
        times, error = {}, last_line or f"exit code {code}"
    records = []
    for name, what in names.items():
        result = {"seconds": times[name]} if name in times else {"error": error}
        outcome = f"{times[name]:.2f} s" if name in times else error
        print(f"{what}: {outcome}", flush=True)
        records.append({"what": what} | result)
    return records
