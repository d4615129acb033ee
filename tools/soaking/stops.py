"""Stops a run again and again, until it is as long as its twin, and compares."""

import dataclasses
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from soaking.comparison import flaws, newest_step
from soaking.runs import Run, Tally, make_reference, wait

_TERM = signal.SIGTERM
_KINDS = {  # signals and how often, in percent
    "SIGKILL": ((signal.SIGKILL,), 60),
    "SIGTERM": ((_TERM,), 15),
    "SIGINT": ((signal.SIGINT,), 12),
    "SIGTERM twice": ((_TERM, _TERM), 13),
}
_STARTUP_SHARE = 0.25
_STARTUP_STRETCH = 1.6  # tracing comes after the first checkpoint
_DELAY_SECONDS = 1.0
_GAP_SECONDS = 0.3
_GRACE_SECONDS = 10.0
_MOST_LOSSES = 20
_MOST_WITHOUT_PROGRESS = 30
_SAY_EVERY = 10


@dataclasses.dataclass(frozen=True)
class Stop:
    """How and when a process is stopped.

    Attributes:
      kind: a key of the signals that are sent.
      in_startup: whether it comes some time after the start, else after a sign of life.
      moment: in [0, 1), of the time in which it may come.
      gap_seconds: between two signals.
    """

    kind: str
    in_startup: bool
    moment: float
    gap_seconds: float

    @property
    def signals(self) -> tuple[signal.Signals, ...]:
        """What is sent, one after the other."""
        return _KINDS[self.kind][0]

    def __str__(self) -> str:
        where = "the start" if self.in_startup else "a sign of life"
        return f"{self.kind} at {self.moment:.3f} after {where}"


def draw_stop(generator: random.Random) -> Stop:
    """The next stop."""
    weights = [share for _, share in _KINDS.values()]
    return Stop(
        kind=generator.choices(list(_KINDS), weights)[0],
        in_startup=generator.random() < _STARTUP_SHARE,
        moment=generator.random(),
        gap_seconds=generator.random() * _GAP_SECONDS,
    )


def soak(name: str, flags: list[str], kills: int, seed: int, folder: Path) -> Tally:
    """Stops runs `kills` times and compares all that come to their end.

    Args:
      name: of the variant.
      flags: of train.py.
      kills: how many stops.
      seed: from which all stops follow, as far as the machine's speed allows.
      folder: for the run directories; those without a loss are removed.
    """
    started, tally = time.monotonic(), Tally(name)
    generator = random.Random(f"{seed} {name}")
    twin, startup_seconds = make_reference(folder / "twin", flags)
    print(f"{name}: the twin is there ({time.monotonic() - started:.0f} s)", flush=True)
    while sum(tally.stops.values()) < kills and len(tally.losses) < _MOST_LOSSES:
        run = Run(folder / f"run-{tally.compared + 1}", flags)
        code = _stop_until_done(run, twin, kills, generator, startup_seconds, tally)
        if tally.compare(run, twin, code):
            shutil.rmtree(run.path)
    tally.seconds = time.monotonic() - started
    return tally


def _stop_until_done(
    run: Run,
    twin: Run,
    kills: int,
    generator: random.Random,
    startup_seconds: float,
    tally: Tally,
) -> int:
    """Stops a run until it is complete or was stopped enough; returns its last code."""
    idle = 0
    while sum(tally.stops.values()) < kills:
        stop, before = draw_stop(generator), newest_step(run.path)
        code, problems = _stop_once(run, stop, startup_seconds)
        if code == 0 and not problems:
            return 0  # it was faster
        tally.stops[stop.kind] += 1
        count = sum(tally.stops.values())
        problems += flaws(run.path, twin.path, before)
        tally.lose(f"{run.path.name}, stop {count} ({stop})", problems)
        step = newest_step(run.path)
        idle = 0 if step > before else idle + 1
        if count % _SAY_EVERY == 0:
            print(
                f"{tally.name}: {count} stops, {tally.compared} runs compared, "
                f"now at step {step}, {len(tally.losses)} losses",
                flush=True,
            )
        if idle > _MOST_WITHOUT_PROGRESS:
            tally.lose(run.path, [f"no progress at step {step} in {idle} stops"])
        if problems or idle > _MOST_WITHOUT_PROGRESS:
            break
    return run.finish()


def _stop_once(run: Run, stop: Stop, startup_seconds: float) -> tuple[int, list[str]]:
    """Starts and stops a run; returns its exit code and what is wrong with its end."""
    with run.process() as process:
        if stop.in_startup:
            _sleep(process, stop.moment * startup_seconds * _STARTUP_STRETCH)
        elif run.wait_for_life(process):
            _sleep(process, stop.moment * _DELAY_SECONDS)
        if process.poll() is not None:
            code = process.returncode
            return code, [f"ended by itself: {run.errors()}"] if code else []
        for number in stop.signals:
            process.send_signal(number)
            if len(stop.signals) > 1:
                _sleep(process, stop.gap_seconds)
        sent = time.monotonic()
        code = wait(process)
        return code, _wrong_end(run, stop, code, time.monotonic() - sent)


def _sleep(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Sleeps, less if the process ends."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _wrong_end(run: Run, stop: Stop, code: int, seconds: float) -> list[str]:
    """What is wrong with how a process ended that was asked to stop."""
    number, errors = stop.signals[0], run.errors()
    if code == 0 and number != signal.SIGKILL and seconds > _GRACE_SECONDS:
        return [f"it went on for {seconds:.0f} s to its end"]
    # A shell sees 128 + n, too, where Python had not yet begun to handle signals.
    allowed = [0, -number] + ([128 + number] if number != signal.SIGKILL else [])
    if code == -number and number != signal.SIGKILL and not stop.in_startup:
        allowed.remove(-number)
    problems = []
    if code not in allowed:
        problems.append(f"exit code {code}: {errors}")
    if code >= 0 and "Traceback" in errors:
        problems.append(f"a traceback: {errors}")
    saved = f"at step {newest_step(run.path)}, which is saved"
    if "which is saved" in errors and saved not in errors:
        problems.append(f"not {saved}: {errors}")
    return problems
