"""Stops runs again and again until they are complete, and compares them."""

import dataclasses
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from soaking.comparison import flaws, newest_step
from soaking.runs import Run, Tally, make_reference, unexpected_output, wait

_TERM = signal.SIGTERM
_KINDS = {  # signals, and the share of stops in percent
    "SIGKILL": ((signal.SIGKILL,), 60),
    "SIGTERM": ((_TERM,), 15),
    "SIGINT": ((signal.SIGINT,), 12),
    "SIGTERM twice": ((_TERM, _TERM), 13),
}
_STARTUP_SHARE = 0.25
_STARTUP_STRETCH = 1.6  # tracing comes after the first checkpoint
_MAX_DELAY_SECONDS = 1.0
_MAX_GAP_SECONDS = 0.3
_GRACE_SECONDS = 10.0
_MAX_LOSSES = 20
_MAX_STOPS_WITHOUT_PROGRESS = 30
_PRINT_EVERY = 10


@dataclasses.dataclass(frozen=True)
class Stop:
    """One stop of a process.

    Attributes:
      kind: a key of `_KINDS`.
      in_startup: True if the delay counts from the start, False if from first output.
      moment: the delay as a share of its maximum, in [0, 1).
      gap_seconds: between two signals.
    """

    kind: str
    in_startup: bool
    moment: float
    gap_seconds: float

    @property
    def signals(self) -> tuple[signal.Signals, ...]:
        """The signals to send, in order."""
        return _KINDS[self.kind][0]

    def __str__(self) -> str:
        where = "the start" if self.in_startup else "first output"
        return f"{self.kind} at {self.moment:.3f} after {where}"


def draw_stop(generator: random.Random) -> Stop:
    """The next stop."""
    weights = [share for _, share in _KINDS.values()]
    return Stop(
        kind=generator.choices(list(_KINDS), weights)[0],
        in_startup=generator.random() < _STARTUP_SHARE,
        moment=generator.random(),
        gap_seconds=generator.random() * _MAX_GAP_SECONDS,
    )


def soak(name: str, flags: list[str], kills: int, seed: int, folder: Path) -> Tally:
    """Stops runs `kills` times and compares every run that is complete.

    Args:
      name: of the variant.
      flags: of train.py.
      kills: number of stops.
      seed: determines the stops; the steps that they hit also depend on the machine.
      folder: for the run directories; runs without a loss are removed.
    """
    started, tally = time.monotonic(), Tally(name)
    generator = random.Random(f"{seed} {name}")
    reference, startup_seconds = make_reference(folder / "reference", flags)
    seconds = time.monotonic() - started
    print(f"{name}: the reference run is complete ({seconds:.0f} s)", flush=True)
    while tally.num_stops < kills and len(tally.losses) < _MAX_LOSSES:
        run = Run(folder / f"run-{tally.compared + 1}", flags)
        code = _stop_until_done(
            run, reference, kills, generator, startup_seconds, tally
        )
        if tally.compare(run, reference, code):
            shutil.rmtree(run.path)
    tally.seconds = time.monotonic() - started
    return tally


def _stop_until_done(
    run: Run,
    reference: Run,
    kills: int,
    generator: random.Random,
    startup_seconds: float,
    tally: Tally,
) -> int:
    """Stops a run until it is complete or `kills` is reached; returns its exit code."""
    idle = 0
    while tally.num_stops < kills:
        stop, before = draw_stop(generator), newest_step(run.path)
        code, problems = _stop_once(run, stop, startup_seconds)
        if code == 0 and not problems:
            return 0  # the run ended before the signal
        tally.stops[stop.kind] += 1
        problems += flaws(run.path, reference.path, before)
        tally.add_losses(f"{run.path.name}, stop {tally.num_stops} ({stop})", problems)
        step = newest_step(run.path)
        idle = 0 if step > before else idle + 1
        if tally.num_stops % _PRINT_EVERY == 0:
            print(
                f"{tally.name}: {tally.num_stops} stops, {tally.compared} runs "
                f"compared, now at step {step}, {len(tally.losses)} losses",
                flush=True,
            )
        if idle > _MAX_STOPS_WITHOUT_PROGRESS:
            message = f"no progress at step {step} in {idle} stops"
            tally.add_losses(run.path, [message])
        if problems or idle > _MAX_STOPS_WITHOUT_PROGRESS:
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
        for number in stop.signals:
            process.send_signal(number)
            if len(stop.signals) > 1:
                _sleep(process, stop.gap_seconds)
        sent = time.monotonic()
        code = wait(process)
        return code, _problems(run, stop, code, time.monotonic() - sent)


def _sleep(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Sleeps until the time is over or the process ends."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _problems(run: Run, stop: Stop, code: int, seconds: float) -> list[str]:
    """Broken promises in the way that a process ended `seconds` after the signals."""
    number, errors = stop.signals[0], run.errors()
    if number == signal.SIGKILL:
        expected = [0, -number]
    else:
        if code == 0 and seconds > _GRACE_SECONDS:
            return [f"it continued for {seconds:.0f} s to its end"]
        # Before Python handles signals, the signal itself ends the process.
        expected = [0, 128 + number] + [-number] * stop.in_startup
    problems = unexpected_output(code, expected, errors)
    saved = f"at step {newest_step(run.path)}, which is saved"
    if "which is saved" in errors and saved not in errors:
        problems.append(f"not {saved}: {errors}")
    return problems
