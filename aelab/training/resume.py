"""Restores the state of a run that was stopped."""

import itertools
import math
import os

import numpy as np

from aelab.errors import FormatError, UsageError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.system.console import warn
from aelab.training.plan import Plan
from aelab.training.state import TrainState


def restore(state: TrainState, run: RunDirectory, plan: Plan) -> None:
    """Restores the newest valid checkpoint, if any, and renames damaged ones.

    Raises:
      UsageError: there are results but no valid checkpoint, or the checkpoint belongs
        to another configuration or lies beyond the end of the plan.
      FormatError: a later release has written the newest checkpoint.
      OSError: a checkpoint can't be read, so nobody knows whether it is damaged.
    """
    damaged: list[tuple[str, str]] = []
    for path, before in itertools.pairwise([*checkpoints.all_of(run.latest), ""]):
        try:
            arrays = _load(path, before)
            break
        except FormatError:
            raise
        except UsageError as error:
            damaged.append((path, str(error)))
    else:
        if run.has_results():
            reasons = "".join(f"\n  {reason}" for _, reason in damaged)
            raise UsageError(
                f"--run_dir={run.path} has results of a run, but {run.latest} has no "
                "valid checkpoint to resume from: put one back, or give another "
                f"directory{reasons}"
            )
        return
    for bad, reason in damaged:
        renamed = checkpoints.rename_damaged(bad)
        warn(f"{reason}. It is now {renamed}; the run resumes from {path}")
    try:
        state.assign(arrays)
    except ValueError as error:
        raise UsageError(f"{path} does not fit this configuration: {error}") from None
    _restore_best(state, run)
    step = int(state.step)
    if step > plan.total_steps:
        raise UsageError(
            f"--run_dir={run.path} has been trained for {step} steps "
            f"({plan.epoch(step):.2f} epochs), more than the {plan.total_steps} "
            "requested: ask for at least as many, or give another directory"
        )


def _load(path: str, other: str) -> dict[str, np.ndarray]:
    """Reads a checkpoint; a failure says that `other`, if any, can take its place."""
    try:
        return checkpoints.load(path)
    except OSError as error:
        if not other:
            raise
        hint = f"{error.strerror}; if it is removed, the run resumes with {other}"
        raise OSError(error.errno, hint, path) from None


def _restore_best(state: TrainState, run: RunDirectory) -> None:
    """Restores the best checkpoint from its copy in `latest` if it is missing."""
    step = state.progress.best_step
    if not step:
        return
    # A run that was killed after it saved the best checkpoint may have a newer one.
    best = checkpoints.newest(run.best) or checkpoints.path_of(run.best, step)
    copy = checkpoints.path_of(run.latest, step)
    for path in (best, copy):
        try:
            has_copy = path != copy and os.path.exists(copy)
            arrays = _load(path, copy if has_copy else "")
        except FormatError:
            raise
        except (UsageError, FileNotFoundError) as error:
            reason = str(error)
            continue
        if path == copy:
            checkpoints.save(run.best, step, arrays)
            warn(f"{best} was lost or damaged; it was copied from {copy}")
        return
    state.progress.best_loss, state.progress.best_step = math.inf, 0
    warn(
        f"the best checkpoint is lost or damaged, and so is its copy: {reason}. The "
        "best of the evaluations to come takes its place"
    )
