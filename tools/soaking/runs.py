"""Runs of scripts/train.py in their own processes, and the tally of a soak."""

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common import file_size

from aelab.errors import TrainingError
from soaking.comparison import differences, newest_step

_TRAIN = Path(__file__).parents[2] / "scripts" / "train.py"
_POLL_SECONDS = 0.005
_HANG_SECONDS = 900.0


class Run:
    """A run directory, the command that trains in it, and the number of its processes.

    `flags` are of train.py, without `--run_dir`. The output of processes goes into the
    folder `logs`, by default next to `path`.
    """

    def __init__(self, path: Path, flags: list[str], logs: Path | None = None):
        self.path, self.flags, self.processes = path, flags, 0
        self.startup_seconds = 0.0  # of a reference run, up to its first checkpoint
        logs = logs or path.parent
        self._out, self._err = (logs / f"{path.name}.{name}" for name in ("out", "err"))
        self._seen = (0, 0)

    @contextlib.contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """Starts the command; kills it at the end if it is still running."""
        self.processes += 1
        command = [sys.executable, str(_TRAIN), f"--run_dir={self.path}", *self.flags]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            process = subprocess.Popen(
                command, stdout=out, stderr=err, start_new_session=True
            )
        self._seen = self._progress()
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def finish(self) -> int:
        """Runs the command to its end and returns its exit code."""
        with self.process() as process:
            return wait(process)

    def errors(self) -> str:
        """The error output of the last process."""
        return self._err.read_text(errors="replace")

    def wait_for_progress(self, process: subprocess.Popen[bytes]) -> bool:
        """Waits for a log entry or a checkpoint; False if the process ended first."""
        deadline = time.monotonic() + _HANG_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            (size, step), now = self._seen, self._progress()
            if now[0] > size or now[1] > step:
                return True
            self._seen = now  # log entries newer than the checkpoint are cut first
            time.sleep(_POLL_SECONDS)
        return False

    def _progress(self) -> tuple[int, int]:
        return file_size(self.path / "metrics.jsonl"), newest_step(self.path)


def wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process; raises TrainingError if it does not end soon."""
    try:
        return process.wait(_HANG_SECONDS)
    except subprocess.TimeoutExpired:
        raise TrainingError(f"{process.args} hangs") from None


def make_reference(path: Path, flags: list[str]) -> Run:
    """Trains the reference run without a stop; raises TrainingError if it fails."""
    path.parent.mkdir(exist_ok=True)
    reference, started = Run(path, flags), time.monotonic()
    with reference.process() as process:
        reference.wait_for_progress(process)
        reference.startup_seconds = time.monotonic() - started
        code = wait(process)
    if code or reference.errors():
        raise TrainingError(f"{path}: exit code {code}: {reference.errors()}")
    return reference


@dataclasses.dataclass
class Tally:
    """The results of a part of a soak."""

    name: str
    stops: Counter[str] = dataclasses.field(default_factory=Counter)  # by kind
    processes: int = 0  # without the reference run's
    compared: int = 0  # complete runs
    losses: list[str] = dataclasses.field(default_factory=list)  # sentences
    seconds: float = 0.0
    not_run: str = ""  # the reason

    def add_losses(self, where: object, losses: list[str]) -> None:
        """Records losses and prints them."""
        for loss in losses:
            self.losses.append(f"{self.name}: {where}: {loss}")
            print(f"LOSS  {self.losses[-1]}", flush=True)

    def compare(self, run: Run, reference: Run, code: int) -> bool:
        """Compares a complete run with exit code `code`; True if nothing is lost."""
        before = len(self.losses)
        if code:
            self.add_losses(run.path, [f"exit code {code} at the end: {run.errors()}"])
        self.add_losses(run.path, differences(run.path, reference.path))
        self.compared += 1
        self.processes += run.processes
        return len(self.losses) == before


def unexpected_output(code: int, expected: list[int], errors: str) -> list[str]:
    """Sentences for an exit code that is not expected, and for a traceback."""
    problems = []
    if code not in expected:
        problems.append(f"exit code {code}, not {expected}: {errors}")
    if code >= 0 and "Traceback" in errors:
        problems.append(f"a traceback: {errors}")
    return problems
