"""Fills a real file system, a small tmpfs, under a run."""

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from soaking.comparison import flaws, newest_step
from soaking.runs import Run, Tally, make_reference, wait

_FLAGS = ["--epochs=12", "--early_stopping_patience=0", "--log_every_steps=1"]
_TRIALS = 5  # of each kind
_PAGE = 4096
_LARGE = "64m"


def soak_full_disk(flags: list[str], seed: int, folder: Path) -> Tally:
    """Lets runs hit the end of a disk, makes room, and compares them with a twin.

    A disk of a random size that is too small, or a large one that somebody else fills
    at a random moment. The same command must fail alike as long as the disk is full,
    and go on when it is not.

    Args:
      flags: of train.py.
      seed: from which sizes and moments follow.
      folder: for the twin and the mount.
    """
    started, tally = time.monotonic(), Tally("full disk")
    generator = random.Random(f"{seed} disk")
    flags = [*flags, *_FLAGS]
    try:
        with _mounted(folder / "disk", _LARGE):
            pass
    except OSError as error:
        tally.not_run = str(error)
        return tally
    twin, _ = make_reference(folder / "twin", flags)
    needed = sum(-(-os.path.getsize(p) // _PAGE) for p in twin.path.rglob("*")) * _PAGE
    for number in range(_TRIALS):
        size = int((number + generator.random()) / _TRIALS * 0.9 * needed)
        delay = 1.5 * generator.random()
        _try_size(f"size {size}", f"{max(size, _PAGE)}", None, twin, folder, tally)
        _try_size(f"filled after {delay:.2f} s", _LARGE, delay, twin, folder, tally)
        print(
            f"full disk: {2 * number + 2} trials, {len(tally.losses)} losses",
            flush=True,
        )
    tally.seconds = time.monotonic() - started
    return tally


def _try_size(
    name: str, size: str, delay: float | None, twin: Run, folder: Path, tally: Tally
) -> None:
    """One run on a disk of its own, which is filled after `delay` seconds of life."""
    disk = folder / "disk"
    with _mounted(disk, size):
        run = Run(disk / "run", twin.flags, logs=folder)
        ballast = disk / "ballast"
        for again in (False, True):
            before = newest_step(run.path)
            with run.process() as process:
                if delay is not None:
                    if not again and run.wait_for_life(process):
                        time.sleep(delay)
                    _fill(ballast)
                code = wait(process)
            where = f"{name}{', again' if again else ''}"
            if code == 0:
                print(f"full disk: {where}: it was faster", flush=True)
                continue
            tally.stops["disk full"] += 1
            print(f"full disk: {where}: {run.errors().strip()[-200:]}", flush=True)
            tally.lose(where, _wrong_end(run, code))
            tally.lose(where, flaws(run.path, twin.path, before))
        ballast.unlink(missing_ok=True)
        _call("mount", "-o", f"remount,size={_LARGE}", str(disk))
        if not tally.compare(run, twin, run.finish()):
            shutil.copytree(run.path, folder / f"lost-{tally.compared}")


def _wrong_end(run: Run, code: int) -> list[str]:
    """What is wrong with how a process ended whose disk was full."""
    errors = run.errors().strip()
    last = errors.splitlines()[-1] if errors else ""
    problems = [] if code == 1 else [f"exit code {code}, not 1: {errors}"]
    if "Traceback" in errors:
        problems.append(f"a traceback: {errors}")
    named = last.startswith("error: ") and f"{run.path}/" in last
    if not named or "bytes were wanted" not in last:
        problems.append(f"the message names no file or no bytes: {last!r}")
    return problems


def _fill(path: Path) -> None:
    """Takes all the room of a disk."""
    with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
        while file.write(bytes(_PAGE)):
            pass


@contextlib.contextmanager
def _mounted(folder: Path, size: str) -> Iterator[None]:
    """A tmpfs of `size` bytes, empty.

    Raises:
      OSError: this machine does not let us.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        _call("umount", str(folder))


def _call(*command: str) -> None:
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise OSError(f"{' '.join(command)}: {found.stderr.strip()}")
