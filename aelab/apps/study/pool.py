"""Trains the runs of a study in several processes side by side."""

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aelab.apps.study.description import Trial
from aelab.apps.study.slots import Slot, slots
from aelab.apps.study.worker import BUSY
from aelab.config import Config
from aelab.distributed.blocks import num_blocks
from aelab.errors import Stopped
from aelab.system.signals import StopRequest

_COMMAND = ["-m", "aelab.apps.study.worker"]
_PAUSE_SECONDS = 0.2
_BUSY_SECONDS = 10.0  # how long a run may take that its dying process still writes


class Outcome(NamedTuple):
    """How a run ended: an exit code, negative if a signal killed it, and a message."""

    trial: Trial
    code: int
    message: str


class _Worker:
    """A process that trains runs one after another; see `aelab.apps.study.worker`."""

    def __init__(self, slot: Slot, trial: Trial):
        """Starts the process for runs that need the same devices as `trial`."""
        self.kind = _kind(trial.config)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if slot.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = slot.gpu
        cores = ",".join(map(str, slot.cores))
        self._process = subprocess.Popen(
            [sys.executable, *_COMMAND, cores],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.trial: Trial | None = None
        self.is_closed = False
        self.progress = 0.0
        self._text = b""

    def fileno(self) -> int:
        """The descriptor of its answers, for `select`."""
        assert self._process.stdout
        return self._process.stdout.fileno()

    def start(self, action: str, trial: Trial) -> None:
        """Sends a run to the process."""
        request = {
            "action": action,
            "run_dir": trial.run_dir,
            "config": dataclasses.asdict(trial.config),
        }
        self.trial, self.progress = trial, 0.0
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # `read` finds that it has ended
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def read(self) -> Outcome | None:
        """Reads its answers; returns the outcome if its run has ended."""
        content = os.read(self.fileno(), 2**16)
        assert self.trial
        if not content:
            code = self.wait()
            reason = f"its process was killed by signal {-code}" if code < 0 else ""
            if code == -9:
                reason += ", as the system does for lack of memory"
            return Outcome(self.trial, code or 1, reason or "its process has ended")
        *lines, self._text = (self._text + content).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if "code" in answer:
                return Outcome(self.trial, answer["code"], answer["message"])
            self.progress = answer["step"] / max(answer["steps"], 1)
        return None

    def close(self) -> None:
        """Lets the process end, after it has saved the run under way."""
        assert self._process.stdin
        self.is_closed = True
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def is_alive(self) -> bool:
        """False if the system has killed it meanwhile, for example."""
        return self._process.poll() is None

    def wait(self) -> int:
        """Waits until the process has ended; returns its exit code."""
        self.close()
        code = self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
        return code


def _kind(config: Config) -> object:
    """Runs with the same value can share a process, one after another."""
    if config.virtual_cpus or config.strategy != "single":
        return config  # a process of its own, unless it is the same run
    return num_blocks(config.batch_size)


class Pool:
    """Processes that work on runs side by side. A context manager, which ends them."""

    def __init__(self, jobs: int):
        """Uses up to `jobs` processes, which share the machine in equal parts."""
        self._slots = slots(jobs)
        self._workers: list[_Worker | None] = [None] * jobs

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *exception: object) -> None:
        workers = [worker for worker in self._workers if worker]
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.wait()

    def run(
        self,
        action: str,
        trials: Sequence[Trial],
        is_done: Callable[[Trial], bool],
        on_end: Callable[[Outcome], None],
        on_progress: Callable[[float], None],
        next_runs: Callable[[], Sequence[Trial]] = lambda: (),
        is_hopeless: Callable[[Trial], bool] = lambda trial: False,
    ) -> list[Trial]:
        """Does `action`, `train` or `evaluate`, for each run.

        Args:
          action: what to do.
          trials: the runs, in the order in which they begin.
          is_done: whether a run needs nothing any more, because another process has
            done it; asked when it is to begin.
          on_end: called for each run that ends.
          on_progress: called now and then with the runs that are done, a fraction of
            each that is under way included.
          next_runs: called when a process has nothing to do; returns more runs, or none
            for the time being.
          is_hopeless: whether a run under way is to be stopped; asked now and then. It
            is saved, and ends with the code of a stopped run.

        Returns:
          The runs that another process writes.

        Raises:
          Stopped: a signal came; the runs under way are saved.
        """
        waiting, others = list(trials), dict[str, float]()
        left: list[Trial] = []
        done = 0
        with StopRequest() as stop:
            while True:
                if stop.signal_number:
                    self.__exit__()
                    raise Stopped(stop.signal_number, "Stopped; all runs are saved")
                if not (self._fill(waiting, next_runs) or self._active()):
                    break
                done += self._begin(action, waiting, is_done)
                ended = self._ended()
                if stop.signal_number:  # the processes may have got it, too
                    continue
                for outcome in ended:
                    if outcome.code == BUSY:
                        now = time.monotonic()
                        began = others.setdefault(outcome.trial.run_dir, now)
                        is_given_up = now - began > _BUSY_SECONDS
                        (left if is_given_up else waiting).append(outcome.trial)
                        time.sleep(_PAUSE_SECONDS)
                        continue
                    done += 1
                    on_end(outcome)
                active = self._active()
                for worker in active:
                    if worker.trial and is_hopeless(worker.trial):
                        worker.close()
                share = sum(worker.progress for worker in active)
                on_progress(done + len(left) + share)
        return [trial for trial in left if not is_done(trial)]

    def _fill(
        self, waiting: list[Trial], next_runs: Callable[[], Sequence[Trial]]
    ) -> list[Trial]:
        """Adds to the runs that wait until there is one for each free process."""
        while len(waiting) + len(self._active()) < len(self._workers):
            if not (more := next_runs()):
                break
            waiting += more
        return waiting

    def _active(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker and worker.trial]

    def _begin(
        self, action: str, waiting: list[Trial], is_done: Callable[[Trial], bool]
    ) -> int:
        """Gives a run to each process that has none; returns how many were done."""
        skipped = 0
        for number, worker in enumerate(self._workers):
            while waiting and not (worker and worker.trial):
                kinds = [_kind(trial.config) for trial in waiting]
                kind = worker.kind if worker else None
                trial = waiting.pop(kinds.index(kind) if kind in kinds else 0)
                if is_done(trial):
                    skipped += 1
                else:
                    worker = self._worker(number, trial)
                    worker.start(action, trial)
        return skipped

    def _worker(self, number: int, trial: Trial) -> _Worker:
        """A process for a run: the one that there is, or a new one."""
        worker = self._workers[number]
        if worker and worker.kind == _kind(trial.config) and worker.is_alive():
            return worker
        if worker:
            worker.wait()
        worker = self._workers[number] = _Worker(self._slots[number], trial)
        return worker

    def _ended(self) -> list[Outcome]:
        """The outcomes that have come since the last call."""
        readable, _, _ = select.select(self._active(), [], [], 0.5)
        found = []
        for worker in readable:
            if outcome := worker.read():
                worker.trial = None
                found.append(outcome)
                if worker.is_closed or outcome.code not in (0, BUSY):
                    worker.wait()
                    self._workers[self._workers.index(worker)] = None
        return found
