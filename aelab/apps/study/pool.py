"""Trains the runs of a study in several processes side by side."""

import select
import time
from collections.abc import Callable, Sequence

from aelab.apps.study.description import Trial
from aelab.apps.study.process import Outcome, Process, kind_of
from aelab.apps.study.slots import slots
from aelab.apps.study.worker import BUSY
from aelab.errors import Stopped
from aelab.system.signals import StopRequest

_RETRY_SECONDS = 0.5  # the first pause before a run of another process is tried again
_BUSY_SECONDS = 10.0  # the longest; a process that is dying may write for seconds


class Pool:
    """Processes that work on runs side by side. A context manager, which ends them."""

    def __init__(self, jobs: int):
        """Uses up to `jobs` processes, which share the machine in equal parts."""
        self._slots = slots(jobs)
        self._workers: list[Process | None] = [None] * jobs
        # When a run was first and last another process's, by its folder.
        self._busy: dict[str, tuple[float, float]] = {}

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
        waiting = list(trials)
        self._busy.clear()
        done = 0
        with StopRequest() as stop:
            while True:
                if stop.signal_number:
                    self.__exit__()
                    raise Stopped(stop.signal_number, "Stopped; all runs are saved")
                self._fill(waiting, next_runs)
                if not self._active() and all(map(self._is_left, waiting)):
                    break
                done += self._begin(action, waiting, is_done)
                ended = self._ended()
                if stop.signal_number:  # the processes may have got it, too
                    continue
                for outcome in self._without_busy(ended, waiting):
                    done += 1
                    on_end(outcome)
                active = self._active()
                for worker in active:
                    if worker.trial and is_hopeless(worker.trial):
                        worker.close()
                on_progress(done + sum(worker.progress for worker in active))
        on_progress(done + len(waiting))
        return [trial for trial in waiting if not is_done(trial)]

    def _without_busy(
        self, ended: Sequence[Outcome], waiting: list[Trial]
    ) -> list[Outcome]:
        """The runs that have ended; those of other processes wait again."""
        now = time.monotonic()
        for outcome in ended:
            if outcome.code == BUSY:
                run_dir = outcome.trial.run_dir
                first, _ = self._busy.get(run_dir, (now, now))
                self._busy[run_dir] = first, now
                waiting.append(outcome.trial)
        return [outcome for outcome in ended if outcome.code != BUSY]

    def _is_left(self, trial: Trial) -> bool:
        """Whether another process has held a run for long."""
        first, last = self._busy.get(trial.run_dir, (0.0, 0.0))
        return last - first > _BUSY_SECONDS

    def _may_begin(self, trial: Trial) -> bool:
        """False if a run is another process's, and was tried a moment ago."""
        if trial.run_dir not in self._busy:
            return True
        first, last = self._busy[trial.run_dir]
        pause = min(max(_RETRY_SECONDS, last - first), _BUSY_SECONDS)
        return time.monotonic() - last > pause

    def _fill(
        self, waiting: list[Trial], next_runs: Callable[[], Sequence[Trial]]
    ) -> None:
        """Adds to the runs that wait until there is one for each free process.

        Runs that another process writes do not count: they may have to wait for long.
        """
        while True:
            own = [trial for trial in waiting if trial.run_dir not in self._busy]
            if len(own) + len(self._active()) >= len(self._workers):
                break
            if not (more := next_runs()):
                break
            waiting += more

    def _active(self) -> list[Process]:
        return [worker for worker in self._workers if worker and worker.trial]

    def _begin(
        self, action: str, waiting: list[Trial], is_done: Callable[[Trial], bool]
    ) -> int:
        """Gives a run to each process that has none; returns how many were done."""
        skipped = 0
        for number, worker in enumerate(self._workers):
            while not (worker and worker.trial):
                ready = [trial for trial in waiting if self._may_begin(trial)]
                if not ready:
                    break
                kinds = [kind_of(trial.config) for trial in ready]
                kind = worker.kind if worker else None
                trial = ready[kinds.index(kind) if kind in kinds else 0]
                waiting.remove(trial)
                if is_done(trial):
                    skipped += 1
                else:
                    worker = self._worker(number, trial)
                    worker.start(action, trial)
        return skipped

    def _worker(self, number: int, trial: Trial) -> Process:
        """A process for a run: the one that there is, or a new one."""
        worker = self._workers[number]
        if worker and worker.kind == kind_of(trial.config) and worker.is_alive():
            return worker
        if worker:
            worker.wait()
        worker = self._workers[number] = Process(self._slots[number], trial)
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
