"""A whole run: from a configuration to a trained model."""

import os
import sys
from typing import Any

import tensorflow as tf

from aelab import checkpoints
from aelab.config import Config
from aelab.console import Console
from aelab.errors import TrainingError, UsageError
from aelab.models import build_model
from aelab.optimizers import build_optimizer
from aelab.plan import Plan, build_plan
from aelab.run_directory import RunDirectory
from aelab.signals import SignalNote
from aelab.sources import Splits, load_splits
from aelab.steps import TrainState
from aelab.summaries import Summaries
from aelab.trainer import Trainer


def train_and_evaluate(config: Config, run_dir: str) -> dict[str, float]:
    """Trains what `config` describes, or goes on with it.

    Args:
      config: the run.
      run_dir: its folder; made if need be.

    Returns:
      The figures of the last evaluation of this call, empty if nothing was left to do.

    Raises:
      UsageError: the data, the configuration and the folder do not fit together.
      TrainingError: a loss or gradient is not finite, or a file can't be written.
      Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    splits = load_splits(config)
    plan = build_plan(config, len(splits.train))
    model = build_model(config, splits.train.image_shape)
    state = TrainState(model, build_optimizer(config, plan.total_steps))
    run = RunDirectory(run_dir)
    run.check(config, splits.describe())
    resumed = _restore(state, run, plan)
    run.write(config, splits.describe())
    _announce(config, plan, splits, model, _status(run, state, plan))
    try:
        with (
            SignalNote() as note,
            Summaries(run, state.progress) as summaries,
            Console(resumed, plan.total_steps) as console,
        ):
            if not resumed:
                summaries.describe(config, model)
            trainer = Trainer(config, plan, splits, state, run, summaries, console)
            figures = trainer.train(note)
    except (OSError, tf.errors.OpError) as error:
        step, reason = int(state.step), getattr(error, "message", None) or error
        raise TrainingError(
            f"training failed at step {step} (epoch {plan.epoch(step):.2f}): {reason}. "
            + checkpoints.what_is_safe(run.latest)
        ) from None
    _say_where_to_look(run, state.progress.best_step)
    return figures


def _restore(state: TrainState, run: RunDirectory, plan: Plan) -> int:
    """Takes on the latest checkpoint, if there is one; returns its step or 0."""
    path = checkpoints.newest(run.latest)
    if path is None:
        return 0
    try:
        state.assign(checkpoints.load(path))
    except ValueError as error:
        raise UsageError(f"{path} does not fit this configuration: {error}") from None
    step = int(state.step)
    if step > plan.total_steps:
        raise UsageError(
            f"--run_dir={run.path} has been trained for {step} steps "
            f"({plan.epoch(step):.2f} epochs), more than the {plan.total_steps} "
            "that are asked for; give at least as many, or another directory"
        )
    return step


def _status(run: RunDirectory, state: TrainState, plan: Plan) -> str:
    """A line on where the run stands."""
    step = int(state.step)
    if step == plan.total_steps == state.progress.evaluated_step:
        return f"Complete   {run.path}: nothing is left to do"
    return (
        f"Goes on    at step {step} of {run.path}" if step else f"Run        {run.path}"
    )


def _announce(
    config: Config, plan: Plan, splits: Splits, model: Any, status: str
) -> None:
    """Prints what will be done."""
    model.summary(expand_nested=True, line_length=80)
    shape = " x ".join(map(str, splits.train.image_shape))
    print(f"""\
Data       {config.dataset}: {len(splits.train):,} images to train, \
{len(splits.eval):,} to evaluate, {shape}
Task       noise {config.noise_stddev}, loss {config.loss}, \
{config.optimizer} at {config.learning_rate} ({config.learning_rate_schedule})
Length     {plan.total_steps:,} steps of {plan.batch_size} images = \
{plan.epoch(plan.total_steps):.2f} epochs
{status}""")
    sys.stdout.flush()


def _say_where_to_look(run: RunDirectory, best_step: int) -> None:
    python = min(sys.executable, os.path.relpath(sys.executable), key=len)
    print(f"""
Pictures   {run.images}
Figures    {run.metrics_jsonl}
Weights    {run.best} (step {best_step}), {run.latest}
Curves     {python} -m tensorboard.main --host=localhost --logdir={run.tensorboard}""")
