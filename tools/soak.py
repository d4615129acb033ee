#!/usr/bin/env python3
"""Stops runs at random moments, and compares them with one that nothing stopped.

tools/soak.py [--kills=100] [--seed=0] [--variants=single,mirrored,bfloat16]
    [--work_dir=DIR] [--full_disk=true|false] [--resume_cost=true|false]
    [--fuzz=true|false] [--json=FILE]

Of each variant a twin is trained first. Then runs of the same flags get SIGKILL,
SIGTERM or SIGINT, are started again, and must end with the twin's checkpoints, figures
and pictures, byte for byte. All that is random follows from --seed, as far as the
machine is as fast again. A stop takes about six seconds.

After that: runs on a disk that is full (needs the right to mount a tmpfs), the time
that it takes to go on with a long run, and tests/promises/test_fuzz.py with many
examples. The exit code is 1 if anything was lost.
"""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aelab.cli import CommandLine, run
from aelab.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from soaking.runs import Tally

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
_FUZZ = [
    "-m",
    "pytest",
    "-q",
    "--hypothesis-profile=soak",
    "tests/promises/test_fuzz.py",
]


def main(argv: Sequence[str]) -> None:
    """Parses the command line, soaks and prints the table."""
    values = _parse(argv)
    kills, seed = _whole("kills", values.kills), _whole("seed", values.seed)
    variants = _variants(values.variants)
    # Children inherit it where it is ignored, as it is behind `&` in a script.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _work_folder(values.work_dir) as folder:
        tallies, notes = [], []
        for name in variants:
            from soaking.stops import soak

            flags_of_it, place = VARIANTS[name], _new(folder, name)
            tallies.append(soak(name, flags_of_it, kills, seed, place))
        if values.full_disk == "true":
            from soaking.disk import soak_full_disk

            tallies.append(soak_full_disk(_BASE, seed, _new(folder, "full_disk")))
        if values.resume_cost == "true":
            from soaking.cost import resume_cost

            notes.append(_cost(resume_cost, _new(folder, "resume_cost")))
        if values.fuzz == "true":
            tallies.append(_fuzz())
        report = {"seed": seed, "parts": [t.row() for t in tallies], "notes": notes}
        _print_table(tallies, notes)
        if values.json:
            Path(values.json).write_text(json.dumps(report, indent=2) + "\n")
        if losses := sum(len(tally.losses) for tally in tallies):
            raise TrainingError(f"{losses} losses with --seed={seed}")


def _parse(argv: Sequence[str]) -> Any:
    command_line = CommandLine(__doc__)
    add = command_line.add_text
    add("kills", "How often each variant is stopped.", "N", "100")
    add("seed", "Signals and moments follow from it.", "N", "0")
    known = f"Which, with commas between; of {', '.join(VARIANTS)}; or none."
    add("variants", known, "NAMES", "single,mirrored,bfloat16")
    kept = "Empty folder for the runs, which stay; else they go if nothing was lost."
    command_line.add_path("work_dir", kept, "DIR")
    switch = ("true", "false")
    command_line.add_choice("full_disk", "Whether to fill a tmpfs.", switch)
    command_line.add_choice("resume_cost", "Whether to time a long run.", switch)
    command_line.add_choice(
        "fuzz", "Whether to run tests/promises/test_fuzz.py.", switch
    )
    command_line.add_path("json", "Also write the table to this file.", "FILE")
    return command_line.parse(argv)


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"--{name} must be a whole number of at least 0, not {text!r}")
    return int(text)


def _variants(text: str) -> list[str]:
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in VARIANTS or names.count(name) > 1:
            raise UsageError(
                f"--variants must be of {', '.join(VARIANTS)}, each once, or none; "
                f"not {text!r}"
            )
    return names


@contextlib.contextmanager
def _work_folder(work_dir: str) -> Iterator[Path]:
    """The folder for all runs; a temporary one goes if nothing is raised."""
    if work_dir:
        folder = Path(work_dir).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--work_dir can't be written: {error}") from None
        if any(folder.iterdir()):
            raise UsageError(f"--work_dir={work_dir} must be empty or new")
    else:
        folder = Path(tempfile.mkdtemp(prefix="aelab-soak-"))
    try:
        yield folder
    except BaseException:
        print(f"The runs are kept in {folder}", flush=True)
        raise
    if not work_dir:
        shutil.rmtree(folder)


def _new(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def _cost(measure: Callable[[list[str], Path], dict[int, float]], folder: Path) -> str:
    times = measure(_BASE, folder)
    return "From start to end, 20 steps more: " + ", ".join(
        f"{seconds:.2f} s at step {step:,}" for step, seconds in times.items()
    )


def _fuzz() -> "Tally":
    """Runs the fuzz test and counts its failures."""
    from soaking.runs import Tally

    tally, started = Tally("fuzz"), time.monotonic()
    root = Path(__file__).parents[1]
    if not (root / _FUZZ[-1]).exists():
        tally.not_run = f"there is no {_FUZZ[-1]}"
        return tally
    found = subprocess.run(
        [sys.executable, *_FUZZ], cwd=root, capture_output=True, text=True
    )
    summary = (found.stdout + found.stderr).strip()
    print(f"fuzz: {summary.splitlines()[-1] if summary else 'no output'}", flush=True)
    tally.processes = 1
    if found.returncode:
        tally.lose(_FUZZ[-1], [summary[-5000:]])
    tally.seconds = time.monotonic() - started
    return tally


def _print_table(tallies: Sequence["Tally"], notes: Sequence[str]) -> None:
    print(
        "\n| variant | stops | processes | runs compared | losses | minutes |\n"
        "|---|---|---|---|---|---|"
    )
    for tally in tallies:
        if tally.not_run:
            print(f"| {tally.name} | NOT run: {tally.not_run} | | | | |")
            continue
        kinds = ", ".join(f"{n} {kind}" for kind, n in tally.stops.most_common())
        print(
            f"| {tally.name} | {sum(tally.stops.values())}"
            f"{f' ({kinds})' if kinds else ''} | {tally.processes} | {tally.compared} "
            f"| {len(tally.losses)} | {tally.seconds / 60:.1f} |"
        )
    for note in notes:
        print(f"\n{note}")
    sys.stdout.flush()


if __name__ == "__main__":
    run(main)
