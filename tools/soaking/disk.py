"""Fills a real file system, a small tmpfs, during a run."""

import contextlib
import math
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from soaking.comparison import flaws, newest_step
from soaking.runs import Run, Tally, make_reference, unexpected_output, wait

_FLAGS = ["--epochs=12", "--early_stopping_patience=0", "--log_every_steps=1"]
_TRIALS = 5  # of each kind
_PAGE = 4096
_LARGE = "64m"


def soak_full_disk(flags: list[str], seed: int, folder: Path) -> Tally:
    """Lets runs with `flags` fill a disk, and compares them with a reference run.

    The disk is too small, of a random size, or another writer fills it at a random
    moment; `seed` determines both. The same command must fail in the same way while
    the disk is full, and resume when there is space.
    """
    started, tally = time.monotonic(), Tally("full disk")
    generator = random.Random(f"{seed} disk")
    try:
        with _mounted(folder / "disk", _LARGE):
            pass
    except OSError as error:
        tally.not_run = str(error)
        return tally
    reference = make_reference(folder / "reference", [*flags, *_FLAGS])
    files = reference.path.rglob("*")
    needed = sum(math.ceil(file.stat().st_size / _PAGE) for file in files) * _PAGE
    for number in range(_TRIALS):
        size = int((number + generator.random()) / _TRIALS * 0.9 * needed)
        delay = 1.5 * generator.random()
        _try_disk(f"{max(size, _PAGE)}", None, reference, folder, tally)
        _try_disk(_LARGE, delay, reference, folder, tally)
        losses = len(tally.losses)
        print(f"full disk: {2 * number + 2} trials, {losses} losses", flush=True)
    tally.seconds = time.monotonic() - started
    return tally


def _try_disk(
    size: str, delay: float | None, reference: Run, folder: Path, tally: Tally
) -> None:
    """Trains on a disk of its own, which is filled `delay` seconds after first output.

    The run fails twice, then gets space and must end like the reference run.
    """
    disk = folder / "disk"
    name = f"size {size}" if delay is None else f"filled after {delay:.2f} s"
    with _mounted(disk, size):
        run, ballast = Run(disk / "run", reference.flags, folder), disk / "ballast"
        for where in (name, f"{name}, again"):
            before = newest_step(run.path)
            with run.process() as process:
                if delay is not None:
                    if where == name and run.wait_for_progress(process):
                        time.sleep(delay)
                    with contextlib.suppress(OSError), ballast.open("ab", 0) as file:
                        while file.write(bytes(_PAGE)):
                            pass
                code = wait(process)
            if code == 0:
                print(f"full disk: {where}: the run ended first", flush=True)
                continue
            tally.stops["disk full"] += 1
            print(f"full disk: {where}: {run.errors().strip()[-200:]}", flush=True)
            problems = _problems(run, code) + flaws(run.path, reference.path, before)
            tally.add_losses(where, problems)
        ballast.unlink(missing_ok=True)
        _call("mount", "-o", f"remount,size={_LARGE}", str(disk))
        if not tally.compare(run, reference, run.finish()):
            shutil.copytree(run.path, folder / f"lost-{tally.compared}")


def _problems(run: Run, code: int) -> list[str]:
    """Broken promises in the way that a process ended on a full disk."""
    errors = run.errors().strip()
    last = errors.rpartition("\n")[2]
    problems = unexpected_output(code, [1], errors)
    wanted = (f"{run.path}/", "bytes were wanted")
    if not last.startswith("error: ") or not all(words in last for words in wanted):
        problems.append(f"the message names no file or no bytes: {last!r}")
    return problems


@contextlib.contextmanager
def _mounted(folder: Path, size: str) -> Iterator[None]:
    """An empty tmpfs of `size` bytes; raises OSError if this machine forbids it."""
    folder.mkdir(parents=True, exist_ok=True)
    _call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        _call("umount", str(folder))


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
