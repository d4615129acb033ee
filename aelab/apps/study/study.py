"""Trains the runs of a study, and reads what they have found."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from aelab.apps.study.description import Description, Trial
from aelab.apps.study.pool import Outcome, Pool
from aelab.apps.study.results import RunResult, VariantResult
from aelab.apps.study.state import (
    DIVERGED,
    FINISHED,
    MISSING,
    RunState,
    read_curve,
    run_state,
)
from aelab.errors import TrainingError
from aelab.metric_info import METRICS
from aelab.runs.directory import RunDirectory
from aelab.system.console import printable, say

_BAR = "{percentage:3.0f}%|{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}]"


@dataclass(frozen=True)
class Work:
    """How a study is trained; none of it changes a run.

    Attributes:
      jobs: the number of processes side by side.
      evaluate: whether finished runs are evaluated on the test part.
      retry_failed: whether runs are tried again that have diverged.
    """

    jobs: int = 1
    evaluate: bool = False
    retry_failed: bool = False


def train_study(folder: str, description: Description, work: Work) -> int:
    """Trains what is left of a study.

    Returns:
      The number of runs that other processes are training.

    Raises:
      TrainingError: runs have failed, all others are done. The message names them.
      Stopped: a signal came; the runs under way are saved.
      OSError: the disk is full or fails.
    """
    trials = list(description.trials(folder))
    with Pool(work.jobs) as pool:
        left = _train(pool, trials, work)
        if work.evaluate and not left.others:
            left.failed += _evaluate(pool, trials).failed
    if left.failed:
        lines = [
            f"{_name(outcome.trial)}: {outcome.message}" for outcome in left.failed
        ]
        raise TrainingError(
            f"{len(lines)} of {len(trials)} runs have failed; the same command tries "
            "them again:\n  " + "\n  ".join(lines)
        )
    return len(left.others)


@dataclass
class _Left:
    """What is not done: runs that failed, and runs of other processes."""

    failed: list[Outcome]
    others: list[Trial]


def _train(pool: Pool, trials: Sequence[Trial], work: Work) -> _Left:
    """Trains all runs that are not finished."""
    states = {t.run_dir: run_state(t.run_dir, t.config) for t in trials}
    skipped = {FINISHED} if work.retry_failed else {FINISHED, DIVERGED}
    todo = [trial for trial in trials if states[trial.run_dir].kind not in skipped]
    resumed = sum(states[t.run_dir].kind != MISSING for t in todo)
    say(
        f"Study      {len(trials)} runs: {len(trials) - len(todo)} done, {resumed} to "
        f"resume, {len(todo) - resumed} to begin"
    )

    def is_done(trial: Trial) -> bool:
        return run_state(trial.run_dir, trial.config).kind in skipped

    return _work(pool, "train", todo, is_done)


def _work(
    pool: Pool, action: str, trials: Sequence[Trial], is_done: Callable[[Trial], bool]
) -> _Left:
    """Does an action for each run, with a progress bar and a line for each."""
    failed: list[Outcome] = []
    bar = tqdm(
        total=len(trials),
        unit="run",
        disable=None,
        dynamic_ncols=True,
        bar_format=_BAR,
    )

    def on_end(outcome: Outcome) -> None:
        state = run_state(outcome.trial.run_dir, outcome.trial.config)
        is_result = state.kind == DIVERGED
        if outcome.code and not is_result:
            failed.append(outcome)
        bar.clear()
        say(_line(outcome, state, on_test=action == "evaluate"))
        bar.refresh()

    def on_progress(done: float) -> None:
        bar.update(done - bar.n)

    with bar:
        return _Left(failed, pool.run(action, trials, is_done, on_end, on_progress))


def _line(outcome: Outcome, state: RunState, on_test: bool) -> str:
    """What the console says about a run that was trained, or evaluated if `on_test`."""
    name = _name(outcome.trial)
    if state.kind == DIVERGED:
        return f"{name}: diverged at step {state.step}"
    if outcome.code:
        return f"{name}: failed: {printable(outcome.message)}"
    best = read_curve(outcome.trial.run_dir, state.best_step).best
    found = _tested(outcome.trial, state) if on_test else best
    shown = ("loss", "psnr", "ssim")
    text = "  ".join(f"{n} {found[n]:{METRICS[n].digits}}" for n in shown if n in found)
    where = ", test part" * on_test
    return f"{name}: step {state.step}, best {state.best_step}{where}  {text}"


def _name(trial: Trial) -> str:
    return f"{trial.variant}/seed-{trial.seed}"


def _evaluate(pool: Pool, trials: Sequence[Trial]) -> _Left:
    """Evaluates the best checkpoint of each finished run on the test part."""

    def is_done(trial: Trial) -> bool:
        state = run_state(trial.run_dir, trial.config)
        return state.kind != FINISHED or bool(_tested(trial, state))

    todo = [trial for trial in trials if not is_done(trial)]
    return _work(pool, "evaluate", todo, is_done)


def _tested(trial: Trial, state: RunState) -> dict[str, float]:
    """The metrics of the test part in `evaluation.json`, empty if there are none."""
    try:
        path = RunDirectory(trial.run_dir).evaluation_json
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        is_right = (found["checkpoint"], found["step"]) == ("best", state.best_step)
        is_own = found["data"]["as_in_training"] is not False
        if is_right and is_own and found.get("split", "test") == "test":
            return {str(n): float(v) for n, v in found["metrics"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return {}


def read_results(folder: str, description: Description) -> list[VariantResult]:
    """What the runs of a study have found so far."""
    results = []
    trials = list(description.trials(folder))
    for variant in description.variants:
        own = [trial for trial in trials if trial.variant == variant.name]
        runs = [_read_run(trial) for trial in own]
        results.append(VariantResult(variant.name, variant.flags, runs))
    return results


def _read_run(trial: Trial) -> RunResult:
    state = run_state(trial.run_dir, trial.config)
    curve = read_curve(trial.run_dir, state.best_step)
    images = state.step * trial.config.batch_size
    minutes = images / curve.images_per_second / 60 if images else math.nan
    tested = _tested(trial, state)
    return RunResult(trial.seed, trial.run_dir, state, curve, minutes, tested)
