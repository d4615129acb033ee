"""Runs of scripts/train.py in processes of their own, and the tally of a soak."""

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aelab.errors import TrainingError
from soaking.comparison import differences, newest_step

_TRAIN = Path(__file__).parents[2] / "scripts" / "train.py"
_POLL_SECONDS = 0.005
_HANG_SECONDS = 900.0


class Run:
    """A run directory, and the command that trains in it.

    Attributes:
      path: the run directory.
      flags: those of train.py, without `--run_dir`.
      processes: how many were started.
    """

    def __init__(self, path: Path, flags: list[str], logs: Path | None = None):
        """Takes note; what processes print lies in `logs`, else beside `path`."""
        self.path, self.flags, self.processes = path, flags, 0
        self._logs = logs or path.parent
        self._seen = (0, 0)

    @contextlib.contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """Starts the command; what is left of it at the end is killed."""
        self.processes += 1
        command = [sys.executable, str(_TRAIN), f"--run_dir={self.path}", *self.flags]
        with self._log("out").open("wb") as out, self._log("err").open("wb") as err:
            process = subprocess.Popen(
                command, stdout=out, stderr=err, start_new_session=True
            )
        self._seen = self._traces()
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def finish(self) -> int:
        """Starts the command, waits for its end and returns its exit code."""
        with self.process() as process:
            return wait(process)

    def errors(self) -> str:
        """What the last process wrote to standard error."""
        return self._log("err").read_text(errors="replace")

    def output(self) -> str:
        """What the last process wrote to standard output."""
        return self._log("out").read_text(errors="replace")

    def wait_for_life(self, process: subprocess.Popen[bytes]) -> bool:
        """Waits until the process has written a line or a checkpoint.

        Returns:
          Whether it has; False if it ended before.
        """
        deadline = time.monotonic() + _HANG_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            now = self._traces()
            if any(new > old for new, old in zip(now, self._seen, strict=True)):
                return True
            self._seen = now  # lines that are ahead of the checkpoint go first
            time.sleep(_POLL_SECONDS)
        return False

    def _traces(self) -> tuple[int, int]:
        path = self.path / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0, newest_step(self.path)

    def _log(self, suffix: str) -> Path:
        return self._logs / f"{self.path.name}.{suffix}"


def wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that should end soon.

    Raises:
      TrainingError: it does not.
    """
    try:
        return process.wait(_HANG_SECONDS)
    except subprocess.TimeoutExpired:
        raise TrainingError(f"{process.args} hangs") from None


def make_reference(path: Path, flags: list[str]) -> tuple[Run, float]:
    """Trains the run that nothing stops.

    Returns:
      It, and the seconds from its start to its first checkpoint.

    Raises:
      TrainingError: it did not end well.
    """
    twin = Run(path, flags)
    started = time.monotonic()
    with twin.process() as process:
        twin.wait_for_life(process)
        startup_seconds = time.monotonic() - started
        code = wait(process)
    if code or twin.errors():
        raise TrainingError(f"{path}: exit code {code}: {twin.errors()}")
    return twin, startup_seconds


@dataclasses.dataclass
class Tally:
    """What came of one part of a soak.

    Attributes:
      name: of the variant.
      stops: how often it was stopped, by what.
      processes: how many were started, the twin's left out.
      compared: how many complete runs were compared with the twin.
      losses: what differed or was not as promised, a sentence each.
      seconds: how long it took.
      not_run: why it was not run, empty if it was.
    """

    name: str
    stops: Counter[str] = dataclasses.field(default_factory=Counter)
    processes: int = 0
    compared: int = 0
    losses: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    not_run: str = ""

    def lose(self, where: object, losses: list[str]) -> None:
        """Takes note of losses, and prints them."""
        for loss in losses:
            self.losses.append(f"{self.name}: {where}: {loss}")
            print(f"LOSS  {self.losses[-1]}", flush=True)

    def compare(self, run: Run, twin: Run, code: int) -> bool:
        """Compares a run whose last process gave `code`; returns if all is fine."""
        before = len(self.losses)
        if code:
            self.lose(run.path, [f"exit code {code} at the end: {run.errors()}"])
        self.lose(run.path, differences(run.path, twin.path))
        self.compared += 1
        self.processes += run.processes
        return len(self.losses) == before

    def row(self) -> dict[str, Any]:
        """The tally for `--json`."""
        return dataclasses.asdict(self) | {"stops": dict(self.stops)}
