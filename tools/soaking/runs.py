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
    """A run directory, and the command that trains in it.

    Attributes:
      path: the run directory.
      flags: the flags of train.py, without `--run_dir`.
      processes: number of processes started so far.
      startup_seconds: of a reference run, from its start to its first checkpoint.
    """

    def __init__(self, path: Path, flags: list[str], logs: Path | None = None):
        """Puts the output of processes into `logs`, by default next to `path`."""
        self.path, self.flags, self.processes = path, flags, 0
        self._logs = logs or path.parent
        self.startup_seconds = 0.0
        self._seen = (0, 0)

    @contextlib.contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """Starts the command; kills it at the end if it is still running."""
        self.processes += 1
        command = [sys.executable, str(_TRAIN), f"--run_dir={self.path}", *self.flags]
        with self._log("out").open("wb") as out, self._log("err").open("wb") as err:
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
        return self._log("err").read_text(errors="replace")

    def wait_for_progress(self, process: subprocess.Popen[bytes]) -> bool:
        """Waits for a log entry or a checkpoint; False if the process ended first."""
        deadline = time.monotonic() + _HANG_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            now = self._progress()
            if any(new > old for new, old in zip(now, self._seen, strict=True)):
                return True
            self._seen = now  # log entries newer than the checkpoint are cut first
            time.sleep(_POLL_SECONDS)
        return False

    def _progress(self) -> tuple[int, int]:
        return file_size(self.path / "metrics.jsonl"), newest_step(self.path)

    def _log(self, suffix: str) -> Path:
        return self._logs / f"{self.path.name}.{suffix}"


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
    """The results of the part `name` of a soak, which took `seconds`.

    Attributes:
      stops: number of stops by kind.
      processes: number of processes, without the reference run's.
      compared: number of complete runs compared with the reference run.
      losses: a sentence for each difference or broken promise.
      not_run: the reason if the part was not run, else empty.
    """

    name: str
    stops: Counter[str] = dataclasses.field(default_factory=Counter)
    processes: int = 0
    compared: int = 0
    losses: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    not_run: str = ""

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
