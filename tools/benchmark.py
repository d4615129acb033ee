#!/usr/bin/env python3
"""Compares the speed of our training loop with Model.fit and PyTorch.

tools/benchmark.py [--quick] [--rounds=5] [--seconds=10] [--device=cpu|gpu]
    [--rows=dense-float32,conv-float32,conv-bfloat16] [--json=FILE]
tools/benchmark.py --mode=scale|start [--seconds=10] [--json=FILE]

The peers are `Model.fit` on stock Keras layers and the same networks in PyTorch, if it
is installed. Each measurement runs in its own process, and the variants take turns.
Each peer's fastest setting is determined first. The table also shows the arithmetic
limit: the time of a float32 matrix product with as many FLOPs. Everything runs on the
CPU, or with --device=gpu on the first GPU.

--quick runs one short round of less than two minutes. --mode=scale measures only our
loop, with more images, larger batches and larger images, and its memory. --mode=start
measures the time from a command to its first training step.
"""

import importlib
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarking.recipes import DEFAULT_ROWS, ROWS, row_config
from common import names_among, whole_number

from aelab.cli import CommandLine, run
from aelab.errors import UsageError

_FULL = {"rounds": "5", "seconds": "10", "examples": "60000"}
_QUICK = {"rounds": "1", "seconds": "2", "examples": "10000"}
_CPU_MODES = ("scale", "start")  # and modules of benchmarking


def main(argv: Sequence[str]) -> None:
    """Parses the command line, measures and prints the table."""
    if argv[1:2] == ["--job"]:
        from benchmarking.jobs import run_job

        print(json.dumps(run_job(json.loads(argv[2]))))
        return
    values = _parse(argv)
    name = values.mode if values.mode in _CPU_MODES else "comparison"
    mode = importlib.import_module(f"benchmarking.{name}")
    with tempfile.TemporaryDirectory(prefix="aelab-benchmark-") as folder:
        report = mode.run(values, Path(folder))
    names = ("mode", "device", *_FULL, "rows")
    report["flags"] = {name: values[name].value for name in names}
    print(f"\n{mode.text(report)}")
    if values.json:
        Path(values.json).write_text(json.dumps(report, indent=2) + "\n")


def _parse(argv: Sequence[str]) -> Any:
    """The values of the flags, checked and converted to numbers."""
    command_line = CommandLine(__doc__)
    add = command_line.add_text
    add("rounds", "Number of rounds; 5, or 1 with --quick.", "N")
    add("seconds", "Duration of each measurement; 10, or 2 with --quick.", "S")
    rows = f"Comma-separated rows, from {', '.join(ROWS)}. The default is all of them, "
    add("rows", f"{rows}on a CPU all but dense-bfloat16.", "ROWS")
    add("examples", "Number of training images; 60000, or 10000 with --quick.", "N")
    modes = "What to measure; --quick is short for --mode=quick."
    command_line.add_choice("mode", modes, ("full", "quick", *_CPU_MODES))
    command_line.add_choice("device", "Where to measure.", ("cpu", "gpu"))
    command_line.add_path("json", "Also write every measurement to this file.", "FILE")
    argv = ["--mode=quick" if word == "--quick" else word for word in argv]
    values = command_line.parse(argv)
    for name, default in (_QUICK if values.mode == "quick" else _FULL).items():
        values[name].value = values[name].value or default
    values["rounds"].value = whole_number("rounds", values.rounds, 1)
    largest_batch = max(row_config(row).batch_size for row in ROWS)
    values["examples"].value = whole_number("examples", values.examples, largest_batch)
    try:
        seconds = float(values.seconds)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"--seconds must be a number above 0, not {values.seconds!r}")
    values["seconds"].value = seconds
    if values.device == "gpu" and values.mode in _CPU_MODES:
        raise UsageError(f"--mode={values.mode} is measured only on CPUs")
    default_rows = ",".join(DEFAULT_ROWS[values.device])
    values["rows"].value = names_among("rows", values.rows or default_rows, ROWS)
    if values.json and not Path(values.json).absolute().parent.is_dir():
        raise UsageError(f"--json={values.json}: there is no such folder")
    return values


if __name__ == "__main__":
    run(main)
