"""Measures the time from a command to its help, first training step and end."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common.markdown import markdown_table

from benchmarking import machine
from benchmarking.table import spread

_SCRIPTS = Path(__file__).parents[2] / "scripts"
_TURNS = 3
_POLL_SECONDS = 0.005
_HANG_SECONDS = 600.0
_TRAIN = [
    *("--dataset=synthetic", "--train_examples=60000", "--eval_examples=100"),
    *("--train_steps=1", "--log_every_steps=1", "--model=conv"),
]
_FIRST_STEP = "`train.py`, until the metrics of its first step are written"
_END = "`train.py` of one step, until its end"


def run(folder: Path) -> dict[str, Any]:
    """Times each command three times, in turn.

    Args:
      folder: for the run directories.

    Returns:
      `machine`, and `records`: `what` with `seconds`, or with `error`.
    """
    records: list[dict[str, Any]] = []
    for turn in range(_TURNS):
        for script in sorted(_SCRIPTS.glob("*.py")):
            times = _timed([str(script), "--help"], None, folder)
            records.append(_record(f"`{script.name} --help`", "end", times))
        run_dir = folder / f"run-{turn}"
        command = [str(_SCRIPTS / "train.py"), *_TRAIN, f"--run_dir={run_dir}"]
        times = _timed(command, run_dir / "metrics.jsonl", folder)
        records.append(_record(_FIRST_STEP, "file", times))
        records.append(_record(_END, "end", times))
    return {"machine": vars(machine.describe("cpu")), "records": records}


def text(report: dict[str, Any]) -> str:
    """The table of a report."""
    rows = []
    for name in dict.fromkeys(record["what"] for record in report["records"]):
        records = [record for record in report["records"] if record["what"] == name]
        times = [record["seconds"] for record in records if "seconds" in record]
        errors = [record["error"] for record in records if "error" in record]
        rows.append((name, f"failed: {errors[-1]}" if errors else spread(times)))
    return (
        f"{markdown_table(('command', 'seconds'), rows)}\n\n"
        f"Medians of {_TURNS} turns (minimum to maximum).\n\n"
        f"{machine.Machine(**report['machine'])}"
    )


def _timed(arguments: list[str], watched: Path | None, folder: Path) -> dict[str, Any]:
    """Runs a script.

    Args:
      arguments: its path and flags.
      watched: a file that it will write.
      folder: for its output.

    Returns:
      `end` and `file`, seconds until the end and until `watched` was not empty; or
      `error`, the last line of the output.
    """
    log, times = folder / "log", {}
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        while process.poll() is None and time.perf_counter() - started < _HANG_SECONDS:
            if watched and "file" not in times and _has_content(watched):
                times["file"] = time.perf_counter() - started
            time.sleep(_POLL_SECONDS)
        times["end"] = time.perf_counter() - started
    finally:
        process.kill()
        code = process.wait()
    if code:
        output = log.read_text(errors="replace").strip()
        return {"error": output.split("\n")[-1] or f"exit code {code}"}
    return times


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _record(what: str, name: str, times: dict[str, Any]) -> dict[str, Any]:
    """One measurement, which is printed as well."""
    if name in times:
        print(f"{what}: {times[name]:.2f} s", flush=True)
        return {"what": what, "seconds": times[name]}
    error = times.get("error", "it ended without writing anything")
    print(f"{what}: {error}", flush=True)
    return {"what": what, "error": error}
