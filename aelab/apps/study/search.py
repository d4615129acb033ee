"""The runs of a search by TPE: which comes next, and which is stopped."""

import dataclasses
import math
import os
from collections.abc import Sequence

from aelab.apps.study.description import Description, Trial
from aelab.apps.study.journal import Journal
from aelab.apps.study.process import Outcome
from aelab.apps.study.progress import Source
from aelab.apps.study.state import (
    DIVERGED,
    FINISHED,
    PRUNED,
    STARTED,
    RunState,
    read_curve,
    read_evaluations,
    run_state,
)
from aelab.apps.study.variants import Variant
from aelab.runs.directory import RunDirectory
from aelab.system.console import say


class SearchRuns(Source):
    """The runs of a search. The folders of its runs say which are done.

    The first seed of a trial comes first; the others follow if it has finished. A trial
    whose runs have all finished has the mean of its seeds as its value. One with a run
    that has diverged has failed.
    """

    def __init__(
        self, folder: str, description: Description, objective: str, done: set[str]
    ):
        """Queues the unfinished runs of earlier trials.

        Args:
          folder: of the study; this process has its lock.
          description: of a study with a search.
          objective: the metric that is searched by.
          done: the kinds of states in which a run is not tried again.
        """
        assert description.search
        self._folder, self._description = folder, description
        self._objective, self._done = objective, done
        self._journal = Journal(folder, description.search, objective)
        self._variants = self._journal.variants()
        self._queue: list[Trial] = []
        self._tried: set[str] = set()  # in this process
        self._ended: set[str] = set()
        self._stopped: set[str] = set()
        self._sizes: dict[str, int] = {}  # of metrics.jsonl when it was read last
        pruned = self._journal.pruned()
        for number in range(len(self._variants)):
            if number not in pruned:
                self._advance(number)
        trials, begun = description.search.trials, len(self._variants)
        to_begin = max(0, trials - begun)
        under_way = {trial.variant for trial in self._queue}
        left = [
            run
            for variant in self._variants
            if variant.name in under_way
            for run in self._runs(variant)
            if _kind(run) not in done
        ]
        self.total = len(left) + to_begin * description.seeds
        say(
            f"Search     {begun + to_begin} trials: {begun - len(under_way)} done, "
            f"{len(under_way)} to resume, {to_begin} to begin"
        )

    def next_runs(self) -> Sequence[Trial]:
        """The next run, of a trial that has begun or of a new one."""
        while not self._queue and (variant := self._journal.ask()):
            self._variants.append(variant)
            self._advance(len(self._variants) - 1)
        return [self._queue.pop(0)] if self._queue else []

    def is_hopeless(self, trial: Trial) -> bool:
        """Whether the median rule, which is for first seeds only, stops a run."""
        number = self._number(trial)
        if trial.run_dir in self._stopped:
            return True
        if trial.seed or not self._journal.is_open(number):
            return False
        path = RunDirectory(trial.run_dir).metrics_jsonl
        size = os.path.getsize(path) if os.path.exists(path) else 0
        if size == self._sizes.get(path, 0):
            return False
        self._sizes[path] = size
        self._report(trial)
        if self._journal.is_hopeless(number):
            self._stopped.add(trial.run_dir)
        return trial.run_dir in self._stopped

    def end(self, outcome: Outcome, state: RunState) -> RunState:
        """Records a run that has ended; returns its state for the console."""
        trial = outcome.trial
        number = self._number(trial)
        self._ended.add(trial.run_dir)
        if not trial.seed and self._journal.is_open(number):
            self._report(trial)
        if trial.run_dir in self._stopped and state.kind == STARTED:
            state = state._replace(kind=PRUNED)
            self._journal.end(number, None, is_pruned=True)
        else:
            self._advance(number)
        return state

    def _report(self, trial: Trial) -> None:
        """Passes the evaluations of a run on to the median rule."""
        values = read_evaluations(trial.run_dir, self._objective)
        self._journal.report(self._number(trial), values)

    def _advance(self, number: int) -> None:
        """Queues the runs of a trial that can begin; ends it if there are none."""
        runs = self._runs(self._variants[number])
        is_first_done = _kind(runs[0]) == FINISHED
        todo = [
            run
            for run in (runs[1:] if is_first_done else runs[:1])
            if run.run_dir not in self._tried and _kind(run) not in self._done
        ]
        self._queue += todo
        self._tried |= {run.run_dir for run in todo}
        under_way = self._tried - self._ended
        if self._journal.is_open(number) and under_way.isdisjoint(
            run.run_dir for run in runs
        ):
            self._end(number, runs)

    def _end(self, number: int, runs: Sequence[Trial]) -> None:
        """Ends a trial if its runs give a value, or one has diverged.

        Else a run has failed: the trial remains open, for the next call to try again.
        """
        states = [run_state(run.run_dir, run.config) for run in runs]
        kinds = {state.kind for state in states}
        if kinds == {FINISHED}:
            curves = [
                read_curve(run.run_dir, state.best_step)
                for run, state in zip(runs, states, strict=True)
            ]
            values = [curve.best.get(self._objective, math.nan) for curve in curves]
            mean = sum(values) / len(values)
            self._journal.end(number, mean if math.isfinite(mean) else None)
        elif DIVERGED in kinds:
            self._journal.end(number, None)

    def _runs(self, variant: Variant) -> list[Trial]:
        """A run for each seed of a trial."""
        only = dataclasses.replace(self._description, variants=[variant])
        return list(only.trials(self._folder))

    def _number(self, trial: Trial) -> int:
        return [variant.name for variant in self._variants].index(trial.variant)


def _kind(trial: Trial) -> str:
    return run_state(trial.run_dir, trial.config).kind
