"""How long it takes from a command to its first training step, or to its help."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarking import machine
from benchmarking.table import machine_text, markdown, spread

_SCRIPTS = Path(__file__).parents[2] / "scripts"
_TURNS = 3
_POLL_SECONDS = 0.005
_HANG_SECONDS = 600.0
_TRAIN = [
    *("--dataset=synthetic", "--train_examples=60000", "--eval_examples=100"),
    *("--train_steps=1", "--log_every_steps=1", "--model=conv"),
]
_FIRST_STEP = "`train.py`, until the figures of its first step are written"
_END = "`train.py` of one step, until its end"

Record = dict[str, Any]


def run(folder: Path) -> dict[str, Any]:
    """Times each command three times, in turn.

    Args:
      folder: for the run directories.

    Returns:
      `machine`, and `records`: `what` with `seconds`, or with `error`.
    """
    records: list[Record] = []
    for turn in range(_TURNS):
        for script in sorted(_SCRIPTS.glob("*.py")):
            records += _time_help(script, folder)
        records += _time_train(folder / f"run-{turn}", folder)
    return {"machine": machine.describe("cpu"), "records": records}


def text(report: dict[str, Any]) -> str:
    """The table of a report of `run`."""
    names = list(dict.fromkeys(record["what"] for record in report["records"]))
    rows = []
    for name in names:
        records = [record for record in report["records"] if record["what"] == name]
        times = [record["seconds"] for record in records if "seconds" in record]
        errors = [record["error"] for record in records if "error" in record]
        rows.append((name, f"failed: {errors[-1]}" if errors else spread(times)))
    return "\n\n".join(
        [
            markdown(("command", "seconds"), rows),
            f"Medians of {_TURNS} (smallest to largest), in turn.",
            machine_text(report["machine"]),
        ]
    )


def _time_help(script: Path, folder: Path) -> list[Record]:
    """Times `--help` of a script."""
    name = f"`{script.name} --help`"
    found = _timed([str(script), "--help"], None, folder)
    return [_said({"what": name, **_outcome(found, "end")})]


def _time_train(run_dir: Path, folder: Path) -> list[Record]:
    """Times a run of one step."""
    command = [str(_SCRIPTS / "train.py"), *_TRAIN, f"--run_dir={run_dir}"]
    found = _timed(command, run_dir / "metrics.jsonl", folder)
    return [
        _said({"what": _FIRST_STEP, **_outcome(found, "file")}),
        _said({"what": _END, **_outcome(found, "end")}),
    ]


def _timed(arguments: list[str], watched: Path | None, folder: Path) -> dict[str, Any]:
    """Runs a script.

    Args:
      arguments: its path and flags.
      watched: a file that it will write a line to.
      folder: where its output goes.

    Returns:
      `end` and `file`, seconds until the end and until something was in `watched`; or
      `error`, the last line of what it said.
    """
    log, found = folder / "log", {}
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        while process.poll() is None and time.perf_counter() - started < _HANG_SECONDS:
            if watched and "file" not in found and _has_content(watched):
                found["file"] = time.perf_counter() - started
            time.sleep(_POLL_SECONDS)
        found["end"] = time.perf_counter() - started
    finally:
        process.kill()
        code = process.wait()
    if code:
        lines = log.read_text(errors="replace").split("\n")
        said = [line for line in lines if line.strip()] or [f"exit code {code}"]
        return {"error": said[-1].strip()}
    return found


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _outcome(found: dict[str, Any], name: str) -> dict[str, Any]:
    """The seconds of that name, or why there are none."""
    if name in found:
        return {"seconds": found[name]}
    return {"error": found.get("error", "it wrote nothing before its end")}


def _said(record: Record) -> Record:
    """Prints a line of progress."""
    told = f"{record['seconds']:.2f} s" if "seconds" in record else record["error"]
    print(f"{record['what']}: {told}", flush=True)
    return record
