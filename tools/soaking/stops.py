"""Stops runs again and again until they are complete, and compares them."""

import contextlib
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from soaking.comparison import flaws, newest_step
from soaking.runs import Run, Tally, make_reference, unexpected_output, wait

_KINDS = {  # signals in order, and the share of stops in percent
    "SIGKILL": ((signal.SIGKILL,), 60),
    "SIGTERM": ((signal.SIGTERM,), 15),
    "SIGINT": ((signal.SIGINT,), 12),
    "SIGTERM twice": ((signal.SIGTERM, signal.SIGTERM), 13),
}
_STARTUP_SHARE = 0.25
_STARTUP_STRETCH = 1.6  # tracing comes after the first checkpoint
_MAX_DELAY_SECONDS = 1.0
_MAX_GAP_SECONDS = 0.3
_GRACE_SECONDS = 10.0
_MAX_LOSSES = 20
_MAX_STOPS_WITHOUT_PROGRESS = 30
_PRINT_EVERY = 10


class Stop(NamedTuple):
    """One stop of a process."""

    kind: str  # a key of `_KINDS`
    in_startup: bool  # the delay counts from the start, else from first output
    moment: float  # share of the longest delay, in [0, 1)
    gap_seconds: float  # between two signals

    def __str__(self) -> str:
        where = "the start" if self.in_startup else "first output"
        return f"{self.kind} at {self.moment:.3f} after {where}"


def draw_stop(generator: random.Random) -> Stop:
    """The next stop."""
    weights = [share for _, share in _KINDS.values()]
    kind = generator.choices(list(_KINDS), weights)[0]
    startup, moment, gap = (generator.random() for _ in range(3))
    return Stop(kind, startup < _STARTUP_SHARE, moment, gap * _MAX_GAP_SECONDS)


def soak(name: str, flags: list[str], kills: int, seed: int, folder: Path) -> Tally:
    """Stops runs with `flags` `kills` times and compares every complete run.

    `seed` and `name` determine the stops; the steps that they hit also depend on the
    machine. Runs in `folder` without a loss are removed.
    """
    started, tally = time.monotonic(), Tally(name)
    generator = random.Random(f"{seed} {name}")
    reference = make_reference(folder / "reference", flags)
    seconds = time.monotonic() - started
    print(f"{name}: the reference run is complete ({seconds:.0f} s)", flush=True)
    while tally.stops.total() < kills and len(tally.losses) < _MAX_LOSSES:
        run = Run(folder / f"run-{tally.compared + 1}", flags)
        code = _stop_until_done(run, reference, kills, generator, tally)
        if tally.compare(run, reference, code):
            shutil.rmtree(run.path)
    tally.seconds = time.monotonic() - started
    return tally


def _stop_until_done(
    run: Run, reference: Run, kills: int, generator: random.Random, tally: Tally
) -> int:
    """Stops a run until it is complete or `kills` is reached; returns its exit code."""
    idle = 0
    while (count := tally.stops.total()) < kills:
        stop, before = draw_stop(generator), newest_step(run.path)
        code, problems = _stop_once(run, stop, reference.startup_seconds)
        if code == 0 and not problems:
            return 0  # the run ended before the signal
        tally.stops[stop.kind] += 1
        problems += flaws(run.path, reference.path, before)
        tally.add_losses(f"{run.path.name}, stop {count + 1} ({stop})", problems)
        step = newest_step(run.path)
        idle = 0 if step > before else idle + 1
        if (count + 1) % _PRINT_EVERY == 0:
            state = f"{count + 1} stops, {tally.compared} runs compared"
            losses = f"{len(tally.losses)} losses"
            print(f"{tally.name}: {state}, now at step {step}, {losses}", flush=True)
        if idle > _MAX_STOPS_WITHOUT_PROGRESS:
            problems = [f"no progress at step {step} in {idle} stops"]
            tally.add_losses(run.path, problems)
        if problems:
            break
    return run.finish()


def _stop_once(run: Run, stop: Stop, startup_seconds: float) -> tuple[int, list[str]]:
    """Starts and stops a run; returns its exit code and the promises it broke."""
    with run.process() as process:
        if stop.in_startup:
            _sleep(process, stop.moment * startup_seconds * _STARTUP_STRETCH)
        elif run.wait_for_progress(process):
            _sleep(process, stop.moment * _MAX_DELAY_SECONDS)
        if process.poll() is not None:
            code = process.returncode
            return code, [f"ended by itself: {run.errors()}"] if code else []
        signals, _ = _KINDS[stop.kind]
        for number in signals:
            process.send_signal(number)
            if len(signals) > 1:
                _sleep(process, stop.gap_seconds)
        sent = time.monotonic()
        code = wait(process)
        return code, _problems(run, stop, code, time.monotonic() - sent)


def _sleep(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Sleeps until the time is over or the process ends."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _problems(run: Run, stop: Stop, code: int, seconds: float) -> list[str]:
    """Broken promises in the way that a process ended `seconds` after the signals."""
    number, errors = _KINDS[stop.kind][0][0], run.errors()
    if number == signal.SIGKILL:
        expected = [0, -number]
    elif code == 0 and seconds > _GRACE_SECONDS:
        return [f"it continued for {seconds:.0f} s to its end"]
    else:
        # Before Python handles signals, the signal itself ends the process.
        expected = [0, 128 + number] + [-number] * stop.in_startup
    problems = unexpected_output(code, expected, errors)
    saved = f"at step {newest_step(run.path)}, which is saved"
    if "which is saved" in errors and saved not in errors:
        problems.append(f"not {saved}: {errors}")
    return problems
