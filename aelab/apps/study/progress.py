"""Runs that are worked on: a progress bar over all, and a line for each that ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from aelab.apps.study.description import Trial
from aelab.apps.study.pool import Pool
from aelab.apps.study.process import Outcome
from aelab.apps.study.state import (
    DIVERGED,
    FINISHED,
    PRUNED,
    RunState,
    read_curve,
    read_tested,
    run_state,
)
from aelab.metric_info import METRICS
from aelab.system.console import printable, say

_BAR = "{percentage:3.0f}%|{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}]"


@dataclass
class Left:
    """The runs that are left: those that failed, and those of other processes."""

    failed: list[Outcome]
    others: list[Trial]


class Source:
    """Runs that become known only when others end; this class has none.

    Attributes:
      total: how many there will be, as far as it is known.
    """

    total = 0

    def next_runs(self) -> Sequence[Trial]:
        """See `Pool.run`."""
        return []

    def is_hopeless(self, trial: Trial) -> bool:
        """See `Pool.run`."""
        return False

    def end(self, outcome: Outcome, state: RunState) -> RunState:
        """Called with each run that has ended; returns the state to report."""
        return state


_NO_SOURCE = Source()


def work_on(
    pool: Pool,
    action: str,
    trials: Sequence[Trial],
    is_done: Callable[[Trial], bool] = lambda trial: False,
    source: Source = _NO_SOURCE,
) -> Left:
    """Does an action for each run, with a progress bar and a line for each."""
    failed: list[Outcome] = []
    bar = tqdm(
        total=len(trials) + source.total,
        unit="run",
        disable=None,
        dynamic_ncols=True,
        bar_format=_BAR,
    )

    def on_end(outcome: Outcome) -> None:
        """Prints how a run has ended."""
        state = run_state(outcome.trial.run_dir, outcome.trial.config)
        state = source.end(outcome, state)
        on_test = action == "evaluate"
        has_failed = bool(outcome.code) and (on_test or state.kind != FINISHED)
        if outcome.code > 0 and state.kind in (DIVERGED, PRUNED):
            has_failed = False
        if has_failed:
            failed.append(outcome)
        bar.clear()
        say(_line(outcome, state, on_test, has_failed))
        bar.refresh()

    def on_progress(done: float) -> None:
        """Moves the bar."""
        bar.update(done - bar.n)

    with bar:
        others = pool.run(
            action,
            trials,
            is_done,
            on_end,
            on_progress,
            source.next_runs,
            source.is_hopeless,
        )
    return Left(failed, others)


def _line(outcome: Outcome, state: RunState, on_test: bool, has_failed: bool) -> str:
    """A line for the console on a run that was trained, or evaluated if `on_test`."""
    name = run_name(outcome.trial)
    if has_failed:
        return f"{name}: failed: {printable(outcome.message)}"
    if state.kind in (DIVERGED, PRUNED):
        return f"{name}: {state.kind} at step {state.step}"
    path = outcome.trial.run_dir
    best = read_curve(path, state.best_step).best
    found = read_tested(path, state) if on_test else best
    shown = ("loss", "psnr", "ssim")
    text = "  ".join(f"{n} {found[n]:{METRICS[n].digits}}" for n in shown if n in found)
    where = ", test part" * on_test
    return f"{name}: step {state.step}, best {state.best_step}{where}  {text}"


def run_name(trial: Trial) -> str:
    """A run in a message."""
    return f"{trial.variant}/seed-{trial.seed}"
