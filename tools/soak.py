#!/usr/bin/env python3
"""Stops runs at random moments and compares them with an uninterrupted run.

tools/soak.py [--kills=100] [--seed=0] [--variants=single,mirrored,bfloat16]
    [--work_dir=DIR] [--study_kills=20] [--full_disk=true|false] [--fuzz=true|false]
    [--json=FILE]

For each variant, a reference run is trained first. Then runs with the same flags get
SIGKILL, SIGTERM or SIGINT and are started again. They must end with the checkpoints,
metrics and images of the reference run, byte for byte. All random choices follow from
--seed; they hit the same steps only if the machine is as fast as before. A stop takes
about six seconds.

A study of four runs in two processes is killed with all its processes, and so is a
search of four trials. Both must end with the same runs and table. After that come runs
on a full disk (needs permission to mount a tmpfs), and tests/promises/test_fuzz.py with
many examples. The exit code is 1 if anything was lost.
"""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import markdown_table, names_among, whole_number
from soaking.disk import soak_full_disk
from soaking.runs import Tally
from soaking.stops import soak
from soaking.studies import soak_study

from aelab.cli import CommandLine, run
from aelab.errors import TrainingError, UsageError
from aelab.system.files import writing

_BASE = [
    *("--model=dense", "--dataset=synthetic"),
    *("--train_examples=2000", "--eval_examples=300", "--batch_size=64"),
    *("--noise_stddev=0.3", "--steps_per_loop=3"),
    *("--log_every_steps=7", "--checkpoint_every_steps=11", "--keep_checkpoints=3"),
    *("--epochs=60", "--early_stopping_patience=4", "--early_stopping_min_delta=0.002"),
]
VARIANTS = {
    "single": _BASE,
    "mirrored": [*_BASE, "--strategy=mirrored", "--virtual_cpus=2"],
    "bfloat16": [*_BASE, "--precision=mixed_bfloat16"],
    "conv": [*_BASE, "--model=conv", "--train_examples=500", "--eval_examples=100"],
}
_LONG = [flag for flag in _BASE if not flag.startswith("--early")]
# Not more than five trials: what the median rule stops depends on the machine's speed.
_STUDIES = {
    "study": [*_LONG, "--vary=learning_rate=0.001,0.002", "--seeds=2", "--jobs=2"],
    "search": [
        *(*_LONG, "--vary=learning_rate=log:0.0005..0.02", "--sampler=tpe"),
        *("--trials=4", "--seeds=2"),
    ],
}
_FUZZ_TEST = "tests/promises/test_fuzz.py"
_HEAD = ("variant", "stops", "processes", "runs compared", "losses", "minutes")


def main(argv: Sequence[str]) -> None:
    """Parses the command line, runs every part and prints the table."""
    values = _parse(argv)
    kills = whole_number("kills", values.kills)
    seed = whole_number("seed", values.seed)
    study_kills = whole_number("study_kills", values.study_kills)
    variants = names_among("variants", values.variants, [*VARIANTS, "none"])
    # Child processes inherit an ignored SIGINT, for example from `&` in a script.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _work_folder(values.work_dir) as folder:
        tallies = [
            soak(name, VARIANTS[name], kills, seed, folder / name)
            for name in variants
            if name != "none"
        ]
        tallies += [
            soak_study(name, flags, study_kills, seed, folder / name)
            for name, flags in _STUDIES.items()
            if study_kills
        ]
        if values.full_disk == "true":
            tallies.append(soak_full_disk(_BASE, seed, folder / "full_disk"))
        if values.fuzz == "true":
            tallies.append(_fuzz())
        print(f"\n{markdown_table(_HEAD, map(_cells, tallies))}", flush=True)
        if values.json:
            report = {"seed": seed, "parts": [vars(tally) for tally in tallies]}
            Path(values.json).write_text(json.dumps(report, indent=2) + "\n")
        if losses := sum(len(tally.losses) for tally in tallies):
            raise TrainingError(f"{losses} losses with --seed={seed}")


def _parse(argv: Sequence[str]) -> Any:
    command_line = CommandLine(__doc__)
    add = command_line.add_text
    add("kills", "Number of stops per variant.", "N", "100")
    add("study_kills", "Number of kills of a study, and of a search.", "N", "20")
    add("seed", "Determines the signals and their moments.", "N", "0")
    variants = f"Comma-separated variants, from {', '.join(VARIANTS)}; or none."
    add("variants", variants, "NAMES", "single,mirrored,bfloat16")
    work_dir = "Empty or new folder that keeps the runs. Without it, they are removed "
    command_line.add_path("work_dir", f"{work_dir}if nothing was lost.", "DIR")
    switch = ("true", "false")
    command_line.add_choice("full_disk", "Run on a full tmpfs.", switch)
    command_line.add_choice("fuzz", f"Run {_FUZZ_TEST}.", switch)
    command_line.add_path("json", "Also write the table to this file.", "FILE")
    return command_line.parse(argv)


@contextlib.contextmanager
def _work_folder(work_dir: str) -> Iterator[Path]:
    """The folder for all runs; a temporary one is removed unless something fails."""
    folder = Path(work_dir or tempfile.mkdtemp(prefix="aelab-soak-")).absolute()
    with writing("--work_dir"):
        folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"--work_dir={work_dir} must be empty or new")
    try:
        yield folder
    except BaseException:
        print(f"The runs are in {folder}", flush=True)
        raise
    if not work_dir:
        shutil.rmtree(folder)


def _fuzz() -> Tally:
    """Runs the fuzz test and records a failure."""
    tally, started, root = Tally("fuzz"), time.monotonic(), Path(__file__).parents[1]
    if not (root / _FUZZ_TEST).exists():
        tally.not_run = f"there is no {_FUZZ_TEST}"
        return tally
    command = [sys.executable, "-m", "pytest", "-q", "--hypothesis-profile=soak"]
    command.append(_FUZZ_TEST)
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    output = (done.stdout + done.stderr).strip()
    print(f"fuzz: {output.splitlines()[-1] if output else 'no output'}", flush=True)
    tally.processes = 1
    if done.returncode:
        tally.add_losses(_FUZZ_TEST, [output[-5000:]])
    tally.seconds = time.monotonic() - started
    return tally


def _cells(tally: Tally) -> list[str]:
    """A line of the table."""
    if tally.not_run:
        return [tally.name, f"NOT run: {tally.not_run}", *[""] * 4]
    kinds = ", ".join(f"{n} {kind}" for kind, n in tally.stops.most_common())
    stops = str(tally.stops.total()) + (f" ({kinds})" if kinds else "")
    counts = map(str, (tally.processes, tally.compared, len(tally.losses)))
    return [tally.name, stops, *counts, f"{tally.seconds / 60:.1f}"]


if __name__ == "__main__":
    run(main)
