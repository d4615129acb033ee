"""The trials of a search by TPE, in Optuna's journal in the folder of the study."""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aelab.apps.study.ranges import Range, Search, trial_name
from aelab.apps.study.variants import Variant
from aelab.config.fields import Value
from aelab.errors import UsageError
from aelab.metric_info import METRICS
from aelab.system.optional import require

JOURNAL_LOG = "journal.log"
_NAME = "study"


class _NoLock:
    """A lock for Optuna: the folder's own lock allows one writer, and ends with it."""

    def acquire(self) -> bool:
        """Always succeeds."""
        return True

    def release(self) -> None:
        """Does nothing."""


class Journal:
    """The trials of a search, for the one process that runs it.

    The values of a trial depend on its number and on what the trials before it have
    found by then.
    """

    def __init__(self, folder: str, search: Search, objective: str):
        """Opens the journal in `folder`, or begins it.

        Args:
          folder: of the study; this process has its lock.
          search: the ranges and the number of trials.
          objective: the metric whose mean the trials are compared by.

        Raises:
          UsageError: Optuna is not installed, or the journal is damaged.
        """
        self._optuna = require("optuna", extra="study")
        self._ranges, self._trials = search.ranges, search.trials
        path = os.path.join(folder, JOURNAL_LOG)
        _drop_partial_line(path)
        up = METRICS[objective].better == "higher"
        with _reading(path):
            self._study = self._optuna.create_study(
                storage=_storage(path),
                study_name=_NAME,
                direction="maximize" if up else "minimize",
                pruner=self._optuna.pruners.MedianPruner(),
                load_if_exists=True,
            )
        self._open: dict[int, Any] = {}  # Optuna's trials under way
        for trial in self._frozen():
            if not trial.state.is_finished():
                # As `ask` does it; Optuna has no other way back to such a trial.
                self._seed(trial.number)
                self._suggest(self._optuna.Trial(self._study, trial._trial_id))

    def variants(self) -> list[Variant]:
        """All trials that have begun."""
        return [_variant(trial, self._ranges) for trial in self._frozen()]

    def pruned(self) -> set[int]:
        """The numbers of the trials that were pruned."""
        return _pruned(self._frozen())

    def is_open(self, number: int) -> bool:
        """Whether a trial has no result yet."""
        return number in self._open

    def ask(self) -> Variant | None:
        """The next trial; None if all have begun."""
        number = len(self._frozen())
        if number >= self._trials:
            return None
        self._seed(number)
        self._suggest(self._study.ask())
        return self.variants()[number]

    def report(self, number: int, values: Sequence[float]) -> None:
        """Records the evaluations of an open trial so far.

        The median rule compares later trials with them, even after this one has ended.

        Args:
          number: of the trial.
          values: the objective in each evaluation of the first seed.
        """
        trial = self._open[number]
        known = self._frozen()[number].intermediate_values
        for count, value in enumerate(values, 1):
            if count not in known and math.isfinite(value):
                trial.report(value, count)

    def is_hopeless(self, number: int) -> bool:
        """Whether the median rule stops an open trial."""
        return bool(self._open[number].should_prune())

    def end(self, number: int, value: float | None, is_pruned: bool = False) -> None:
        """Ends an open trial with the mean of its seeds; None: pruned or failed."""
        states = self._optuna.trial.TrialState
        state = None
        if value is None:
            state = states.PRUNED if is_pruned else states.FAIL
        self._study.tell(number, value, state)
        del self._open[number]

    def _frozen(self) -> list[Any]:
        return list(self._study.get_trials(deepcopy=False))

    def _seed(self, number: int) -> None:
        self._study.sampler = self._optuna.samplers.TPESampler(seed=number)

    def _suggest(self, trial: Any) -> None:
        """Gives a trial the values that it does not have yet."""
        for name, each in self._ranges.items():
            if each.choices:
                trial.suggest_categorical(name, each.choices)
            elif isinstance(each.low, int):
                trial.suggest_int(name, each.low, each.high, log=each.is_log)
            else:
                trial.suggest_float(name, each.low, each.high, log=each.is_log)
        self._open[trial.number] = trial


def read_trials(folder: str, search: Search) -> tuple[list[Variant], set[str]]:
    """The trials in the journal of a study, and the names of those that were pruned.

    Nothing is written, so a search may be under way.

    Raises:
      UsageError: Optuna is not installed, or the journal is damaged.
    """
    optuna = require("optuna", extra="study")
    path = os.path.join(folder, JOURNAL_LOG)
    if not os.path.exists(path):
        return [], set()
    try:
        with _reading(path):
            study = optuna.load_study(study_name=_NAME, storage=_storage(path))
    except KeyError:  # it was killed at its start
        return [], set()
    found = study.get_trials(deepcopy=False)
    # A trial that has just begun may not have all its values.
    whole = [trial for trial in found if trial.params.keys() == search.ranges.keys()]
    variants = [_variant(trial, search.ranges) for trial in whole]
    return variants, {trial_name(number) for number in _pruned(whole)}


def _variant(trial: Any, ranges: Mapping[str, Range]) -> Variant:
    flags: dict[str, Value] = {
        name: each.rounded(trial.params[name]) for name, each in ranges.items()
    }
    return Variant(trial_name(trial.number), flags)


def _pruned(trials: Sequence[Any]) -> set[int]:
    return {trial.number for trial in trials if trial.state.name == "PRUNED"}


def _storage(path: str) -> Any:
    optuna = require("optuna", extra="study")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    backend = optuna.storages.journal.JournalFileBackend(path, _NoLock())
    return optuna.storages.JournalStorage(backend)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Raises UsageError if a line is not JSON, or not UTF-8."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}") from None


def _drop_partial_line(path: str) -> None:
    """Removes an incomplete last line, which a machine that went down has left."""
    if os.path.exists(path):
        with open(path, "rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
