#!/usr/bin/env python3
"""Compares the speed of our training loop with that of its peers.

tools/benchmark.py [--quick] [--rounds=5] [--seconds=10] [--device=cpu|gpu]
    [--rows=dense-float32,conv-float32,conv-bfloat16] [--json=FILE]
tools/benchmark.py --mode=scale|start [--seconds=10] [--json=FILE]

The peers are `Model.fit` on stock Keras layers and the same networks in PyTorch, where
that is installed: pip install -e '.[bench]'. Each measurement is a process of its own,
and they take turns. Which setting of a peer is the fastest is tried first. Beside them
stands the arithmetic limit: how long a float32 matrix product of as many FLOPs takes.
All of them on the CPU, or with --device=gpu on the first GPU.

--quick is one short round, of less than two minutes. --mode=scale measures our loop
alone with more images, larger batches and larger images, and its memory. --mode=start
measures how long a command takes until its first training step.
"""

import json
import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarking.recipes import DEFAULT_ROWS, ROWS, row_config

from aelab.cli import CommandLine, run
from aelab.errors import UsageError

_FULL = {"rounds": "5", "seconds": "10", "examples": "60000"}
_QUICK = {"rounds": "1", "seconds": "2", "examples": "10000"}
_DEFAULTS = {"full": _FULL, "quick": _QUICK, "scale": _FULL, "start": _FULL}
_FEWEST_EXAMPLES = max(row_config(row).batch_size for row in ROWS)
_SEED = 1  # of the images


def main(argv: Sequence[str]) -> None:
    """Parses the command line, measures and prints the table."""
    if argv[1:2] == ["--job"]:
        from benchmarking.children import do

        print(json.dumps(do(json.loads(argv[2]))))
        return
    values = _parse(argv)
    with tempfile.TemporaryDirectory(prefix="aelab-benchmark-") as folder:
        report, text = _measure(values, Path(folder))
    report["flags"] = {
        name: values[name].value for name in ("mode", "device", *_FULL, "rows")
    }
    print(f"\n{text}")
    if values.json:
        Path(values.json).write_text(json.dumps(report, indent=2) + "\n")


def _parse(argv: Sequence[str]) -> Any:
    """The values of the flags, checked, with numbers for texts."""
    command_line = CommandLine(__doc__)
    add = command_line.add_text
    add("rounds", "How often each is measured; 5, or 1 with --quick.", "N")
    add("seconds", "For how long each time; 10, or 2 with --quick.", "S")
    rows = f"Which of {', '.join(ROWS)}, with commas between; all, or on a CPU all but "
    add("rows", f"{rows}dense-bfloat16.", "ROWS")
    add("examples", "Images in the set; 60000, or 10000 with --quick.", "N")
    modes = "What to measure; --quick is short for --mode=quick."
    command_line.add_choice("mode", modes, tuple(_DEFAULTS))
    command_line.add_choice("device", "Where to measure.", ("cpu", "gpu"))
    command_line.add_path("json", "Also write all that was found here.", "FILE")
    values = command_line.parse(
        ["--mode=quick" if word == "--quick" else word for word in argv]
    )
    for name, default in _DEFAULTS[values.mode].items():
        values[name].value = values[name].value or default
    values["rounds"].value = _whole("rounds", values.rounds, 1)
    values["examples"].value = _whole("examples", values.examples, _FEWEST_EXAMPLES)
    values["seconds"].value = _seconds(values.seconds)
    if values.device == "gpu" and values.mode not in ("full", "quick"):
        raise UsageError(f"--mode={values.mode} is measured on CPUs alone")
    default_rows = ",".join(DEFAULT_ROWS[values.device])
    values["rows"].value = _rows(values.rows or default_rows)
    if values.json and not Path(values.json).absolute().parent.is_dir():
        raise UsageError(f"--json={values.json}: there is no such folder")
    return values


def _whole(name: str, text: str, minimum: int) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < minimum:
        raise UsageError(
            f"--{name} must be a whole number of at least {minimum}, not {text!r}"
        )
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"--seconds must be a number above 0, not {text!r}")
    return seconds


def _rows(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in ROWS or names.count(name) > 1:
            raise UsageError(
                f"--rows must be of {', '.join(ROWS)}, each once; not {text!r}"
            )
    return names


def _measure(values: Any, folder: Path) -> tuple[dict[str, Any], str]:
    """What `--mode` asks for: the report for `--json`, and its text."""
    if values.mode == "start":
        from benchmarking import start

        report = start.run(folder)
        return report, start.text(report)
    if values.mode == "scale":
        from benchmarking import scale

        images = _draw(scale.STORED_IMAGES, folder)
        report = scale.run(images, values.seconds, folder)
        return report, scale.text(report)
    from benchmarking.comparison import Comparison
    from benchmarking.table import comparison_text

    report = Comparison(
        device=values.device,
        rows=values.rows,
        rounds=values.rounds,
        seconds=values.seconds,
        is_quick=values.mode == "quick",
        images=_draw(values.examples, folder),
        folder=folder,
    ).run()
    return report, comparison_text(report)


def _draw(count: int, folder: Path) -> Path:
    """Draws the embedded set's first images once, for all processes: a .npy file."""
    import numpy as np

    from aelab.data.synthetic import draw_images

    path = folder / "images.npy"
    np.save(path, draw_images(count, _SEED)[0])
    return path


if __name__ == "__main__":
    run(main)
