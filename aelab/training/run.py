"""A whole run: from a configuration to a trained model."""

import contextlib
import os
import sys
from typing import Any

import tensorflow as tf

from aelab.config import Config
from aelab.data.corruptions import describe
from aelab.data.pipeline import image_error
from aelab.data.sources import Splits, load_splits
from aelab.distributed.cluster import find_cluster
from aelab.distributed.devices import Distribution
from aelab.distributed.reduce import shared_settings
from aelab.distributed.worker_log import worker_log
from aelab.errors import TrainingError, UsageError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.summaries.summaries import Summaries
from aelab.system.console import Console, warn
from aelab.system.signals import StopRequest
from aelab.training.plan import Plan, build_plan
from aelab.training.state import TrainState
from aelab.training.trainer import Trainer, last_checkpoint_sentence


def train_and_evaluate(config: Config, run_dir: str) -> dict[str, float]:
    """Trains what `config` describes, or goes on with it.

    Args:
      config: the run.
      run_dir: its folder; made if need be. Of several workers the first writes it.

    Returns:
      The figures of the last evaluation of this call, empty if nothing was left to do.

    Raises:
      UsageError: the data, the configuration, the devices and the folder do not fit
        together.
      TrainingError: a loss or gradient is not finite, a file can't be written, or
        another worker is gone.
      MemoryError: the model does not fit into memory.
      Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    cluster = find_cluster() if config.strategy == "multi_worker" else None
    with worker_log(cluster, run_dir):
        distribution = Distribution(config, cluster)
        run = RunDirectory(run_dir)
        try:
            return _train(config, distribution, run)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(error.message) from None
        except tf.errors.OpError as error:
            # Outside training: the workers tell each other how they were started.
            if distribution.workers == 1:
                raise
            reason = _reason(error, distribution)
            raise TrainingError(
                f"{reason}. {last_checkpoint_sentence(run, distribution)}"
            ) from None


def _train(
    config: Config, distribution: Distribution, run: RunDirectory
) -> dict[str, float]:
    # A run that is there may have a writer, who is found before anything else is done.
    # Where there is none, bad input leaves no directory behind.
    is_there = distribution.is_chief and os.path.exists(run.config_json)
    with run.exclusive_lock() if is_there else contextlib.nullcontext():
        return _prepare(config, distribution, run, is_locked=is_there)


def _prepare(
    config: Config, distribution: Distribution, run: RunDirectory, is_locked: bool
) -> dict[str, float]:
    """Loads the data and builds the state."""
    splits = load_splits(config)
    distribution.check_same_settings(shared_settings(config, splits.describe()))
    plan = build_plan(config, len(splits.train))
    state = TrainState(
        config, splits.train.image_shape, plan.total_steps, distribution.strategy
    )
    is_due = distribution.is_chief and not is_locked
    with run.exclusive_lock() if is_due else contextlib.nullcontext():
        return _go_on(config, plan, splits, state, distribution, run)


def _go_on(
    config: Config,
    plan: Plan,
    splits: Splits,
    state: TrainState,
    distribution: Distribution,
    run: RunDirectory,
) -> dict[str, float]:
    """Trains from where the run stands."""
    if distribution.is_chief:
        run.check(config, splits.describe())
        _restore(state, run, plan)
    state.assign(distribution.broadcast_from_chief(state.arrays()))
    first_step, status = int(state.step), _status(run, state, plan)
    if distribution.is_chief:
        if 0 < first_step < plan.total_steps:
            status += _change(run.read_machine(), distribution.describe())
        run.write(config, splits.describe(), distribution.describe())
    _announce(config, plan, splits, state, distribution, status)
    try:
        with (
            StopRequest() as note,
            _summaries(distribution, run, state) as summaries,
            Console(first_step, plan.total_steps) as console,
        ):
            if summaries and not first_step:
                summaries.describe(config, state.model)
            trainer = Trainer(
                config, plan, splits, state, distribution, run, summaries, console, note
            )
            figures = trainer.train()
            distribution.barrier()  # who leaves early looks dead to the others
    except (OSError, tf.errors.OpError) as error:
        step, reason = int(state.step), _reason(error, distribution)
        raise TrainingError(
            f"training failed at step {step} (epoch {plan.epoch(step):.2f}): {reason}. "
            + last_checkpoint_sentence(run, distribution)
        ) from None
    if distribution.is_chief:
        _say_where_to_look(run, state.progress.best_step)
    return figures


def _summaries(
    distribution: Distribution, run: RunDirectory, state: TrainState
) -> contextlib.AbstractContextManager[Summaries | None]:
    """What the chief writes figures with; the other workers write none."""
    if not distribution.is_chief:
        return contextlib.nullcontext()
    return Summaries(run, state.progress, int(state.step))


# Of a worker that waits for another one which dies, and of TensorFlow's message then.
_LOST = (
    *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError),
    tf.errors.DeadlineExceededError,
)
_ABORTED = "Collective ops is aborted by: "


def _reason(error: Exception, distribution: Distribution) -> str:
    """What went wrong, in a sentence."""
    if isinstance(error, tf.errors.OpError) and (reason := image_error(error)):
        return reason
    if isinstance(error, OSError) or distribution.workers == 1:
        return str(getattr(error, "message", error))
    message = str(getattr(error, "message", error))
    detail = (message.partition(_ABORTED)[2] or message).strip().partition("\n")[0]
    if "group" in detail and "size" in detail:
        return f"the workers must have the same number and kind of devices ({detail})"
    if not isinstance(error, _LOST):
        return message
    return (
        f"another worker is gone or can't be reached ({detail.rstrip(':')}); see what "
        "it said, and start all of them again with the same commands"
    )


def _restore(state: TrainState, run: RunDirectory, plan: Plan) -> None:
    """Takes on the newest checkpoint that is whole, and sets aside those that are not.

    Raises:
      UsageError: there are results but no whole checkpoint, or that is of another
        configuration or ahead of the plan.
    """
    damaged = []
    for path in checkpoints.all_of(run.latest):
        try:
            arrays = checkpoints.load(path)
            break
        except UsageError as error:
            damaged.append((path, str(error)))
    else:
        if run.has_results():
            reasons = "".join(f"\n  {reason}" for _, reason in damaged)
            raise UsageError(
                f"--run_dir={run.path} has results of a run, and no checkpoint in "
                f"{run.latest} to go on from: put one back, or give another directory"
                f"{reasons}"
            )
        return
    for bad, reason in damaged:
        aside = checkpoints.rename_damaged(bad)
        warn(f"{reason}. It is now {aside}; the run goes on from {path}")
    try:
        state.assign(arrays)
    except ValueError as error:
        raise UsageError(f"{path} does not fit this configuration: {error}") from None
    _mend_best(state, run)
    step = int(state.step)
    if step > plan.total_steps:
        raise UsageError(
            f"--run_dir={run.path} has been trained for {step} steps "
            f"({plan.epoch(step):.2f} epochs), more than the {plan.total_steps} "
            "that are asked for; give at least as many, or another directory"
        )


def _mend_best(state: TrainState, run: RunDirectory) -> None:
    """Sees to it that the best checkpoint is there, which is also saved as a latest."""
    step = state.progress.best_step
    if not step:
        return
    # A run that was killed after it saved the best may have one that is newer.
    best = checkpoints.newest(run.best) or checkpoints.path_of(run.best, step)
    twin = checkpoints.path_of(run.latest, step)
    for path in (best, twin):
        try:
            arrays = checkpoints.load(path)
        except (UsageError, FileNotFoundError) as error:
            reason = str(error)
            continue
        if path == twin:
            checkpoints.save(run.best, step, arrays)
            warn(f"{best} was lost or damaged; it is copied from {twin}")
        return
    warn(f"the best checkpoint is lost or damaged, and so is its copy: {reason}")


def _status(run: RunDirectory, state: TrainState, plan: Plan) -> str:
    """A line on where the run stands."""
    step = int(state.step)
    if step == plan.total_steps == state.progress.evaluated_step:
        return f"Complete   {run.path}: nothing is left to do"
    return (
        f"Goes on    at step {step} of {run.path}" if step else f"Run        {run.path}"
    )


def _change(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What a resumed run's user must know if its devices are not those of before."""
    if not before or before == now:
        return ""
    return (
        f", on other devices than before ({before.get('replicas')} replicas on "
        f"{', '.join(before.get('devices', []))} then, XLA "
        f"{'on' if before.get('xla') else 'off'}): equal up to rounding from here on"
    )


def _announce(
    config: Config,
    plan: Plan,
    splits: Splits,
    state: TrainState,
    distribution: Distribution,
    status: str,
) -> None:
    """Prints what will be done."""
    state.model.summary(expand_nested=True, line_length=80)
    shape = " x ".join(map(str, splits.train.image_shape))
    print(f"""\
Data       {config.dataset}: {len(splits.train):,} images to train, \
{len(splits.eval):,} to evaluate, {shape}
Task       corruption {describe(config)}; loss {config.loss}, \
{config.optimizer} at {config.learning_rate} ({config.learning_rate_schedule})
Length     {plan.total_steps:,} steps of {plan.batch_size} images = \
{plan.epoch(plan.total_steps):.2f} epochs
Devices    {distribution.line()}
{status}""")
    sys.stdout.flush()


def _say_where_to_look(run: RunDirectory, best_step: int) -> None:
    python = min(sys.executable, os.path.relpath(sys.executable), key=len)
    print(f"""
Pictures   {run.images}
Figures    {run.metrics_jsonl}
Weights    {run.best} (step {best_step}), {run.latest}
Curves     {python} -m tensorboard.main --host=localhost --logdir={run.tensorboard}""")
