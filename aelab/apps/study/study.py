"""Trains the runs of a study, and reads what they have found."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from aelab.apps.study.description import Description, Trial
from aelab.apps.study.journal import read_trials
from aelab.apps.study.pool import Pool
from aelab.apps.study.progress import Left, run_name, work_on
from aelab.apps.study.results import RunResult, VariantResult
from aelab.apps.study.search import SearchRuns
from aelab.apps.study.state import (
    DIVERGED,
    FINISHED,
    MISSING,
    PRUNED,
    STARTED,
    read_curve,
    read_tested,
    run_state,
)
from aelab.apps.study.statistics import summarize
from aelab.errors import TrainingError
from aelab.metric_info import METRICS
from aelab.system.console import say


@dataclass(frozen=True)
class Work:
    """How a study is trained; none of it changes a run.

    Attributes:
      jobs: the number of processes side by side.
      evaluate: whether finished runs are evaluated on the test part.
      retry_failed: whether runs are tried again that have diverged.
      objective: the metric that a search goes by.
    """

    jobs: int = 1
    evaluate: bool = False
    retry_failed: bool = False
    objective: str = "psnr"


def train_study(folder: str, description: Description, work: Work) -> int:
    """Trains what is left of a study.

    Returns:
      The number of runs that other processes are training.

    Raises:
      TrainingError: runs have failed, all others are done. The message names them.
      Stopped: a signal came; the runs under way are saved.
      OSError: the disk is full or fails.
    """
    with Pool(work.jobs) as pool:
        if description.uses_tpe:
            done = _done(work)
            source = SearchRuns(folder, description, work.objective, done)
            left = work_on(pool, "train", [], source=source)
            description = with_trials(folder, description)
        else:
            left = _train(pool, list(description.trials(folder)), work)
        trials = list(description.trials(folder))
        if work.evaluate and not left.others:
            tested = (
                _best_trial(folder, description, work) if description.search else trials
            )
            left.failed += _evaluate(pool, tested).failed
    if left.failed:
        lines = [
            f"{run_name(outcome.trial)}: {outcome.message}" for outcome in left.failed
        ]
        raise TrainingError(
            f"{len(lines)} of {len(trials)} runs have failed; the same command tries "
            "them again:\n  " + "\n  ".join(lines)
        )
    return len(left.others)


def _done(work: Work) -> set[str]:
    """The kinds of states in which a run is not tried again."""
    return {FINISHED} if work.retry_failed else {FINISHED, DIVERGED}


def _best_trial(folder: str, description: Description, work: Work) -> list[Trial]:
    """The runs of the trial with the best mean on the part that validates."""
    sign = 1 if METRICS[work.objective].better == "higher" else -1
    means = {}
    for variant in read_results(folder, description):
        values = [run.value(work.objective, on_test=False) for run in variant.runs]
        found = summarize(values)
        if found.n == description.seeds:
            means[variant.name] = sign * found.mean
    best = max(means, key=lambda name: means[name], default="")
    return [run for run in description.trials(folder) if run.variant == best]


def with_trials(folder: str, description: Description) -> Description:
    """A description whose variants are the trials that have begun, if TPE makes them.

    Raises:
      UsageError: Optuna is needed and not installed.
    """
    if not description.uses_tpe:
        return description
    assert description.search
    variants, _ = read_trials(folder, description.search)
    return dataclasses.replace(description, variants=variants)


def _train(pool: Pool, trials: Sequence[Trial], work: Work) -> Left:
    """Trains all runs that are not finished."""
    states = {t.run_dir: run_state(t.run_dir, t.config) for t in trials}
    skipped = _done(work)
    todo = [trial for trial in trials if states[trial.run_dir].kind not in skipped]
    resumed = sum(states[t.run_dir].kind != MISSING for t in todo)
    say(
        f"Study      {len(trials)} runs: {len(trials) - len(todo)} done, {resumed} to "
        f"resume, {len(todo) - resumed} to begin"
    )

    def is_done(trial: Trial) -> bool:
        """Whether a run has ended meanwhile."""
        return run_state(trial.run_dir, trial.config).kind in skipped

    return work_on(pool, "train", todo, is_done)


def _evaluate(pool: Pool, trials: Sequence[Trial]) -> Left:
    """Evaluates the best checkpoint of each finished run on the test part."""

    def is_done(trial: Trial) -> bool:
        """Whether there is nothing to evaluate."""
        state = run_state(trial.run_dir, trial.config)
        return state.kind != FINISHED or bool(read_tested(trial.run_dir, state))

    todo = [trial for trial in trials if not is_done(trial)]
    return work_on(pool, "evaluate", todo, is_done)


def read_results(folder: str, description: Description) -> list[VariantResult]:
    """The results of a study so far."""
    results, pruned = [], set[str]()
    if description.uses_tpe and description.search:
        _, pruned = read_trials(folder, description.search)
    trials = list(description.trials(folder))
    for variant in description.variants:
        own = [trial for trial in trials if trial.variant == variant.name]
        runs = [_read_run(trial, variant.name in pruned) for trial in own]
        results.append(VariantResult(variant.name, variant.flags, runs))
    return results


def _read_run(trial: Trial, is_pruned: bool) -> RunResult:
    state = run_state(trial.run_dir, trial.config)
    if is_pruned and state.kind == STARTED:
        state = state._replace(kind=PRUNED)
    curve = read_curve(trial.run_dir, state.best_step)
    images = state.step * trial.config.batch_size
    minutes = images / curve.images_per_second / 60 if images else math.nan
    tested = read_tested(trial.run_dir, state)
    return RunResult(trial.seed, trial.run_dir, state, curve, minutes, tested)
