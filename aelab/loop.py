"""The outer loop: what happens between the calls of the compiled inner loop."""

import dataclasses
import math
import os
import signal
import sys
import time
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from aelab import checkpoints
from aelab.config import Config
from aelab.console import Console, figures_text
from aelab.errors import Stopped, TrainingError, UsageError
from aelab.models import build_model
from aelab.optimizers import LearningRate, build_optimizer
from aelab.pipeline import make_eval_dataset, make_train_dataset, num_eval_batches
from aelab.plan import Plan, build_plan
from aelab.run_directory import RunDirectory
from aelab.signals import SignalNote
from aelab.sources import Source, Splits, load_splits
from aelab.steps import (
    TrainState,
    autoencode,
    build_evaluate,
    build_train_loop,
    means,
    model_metrics,
)
from aelab.summaries import Summaries

_PANEL_COLUMNS = 12


def train_and_evaluate(config: Config, run_dir: str) -> dict[str, float]:
    """Trains what `config` describes, or goes on with it.

    Args:
      config: the run.
      run_dir: its folder; made if need be.

    Returns:
      The figures of the last evaluation of this call, empty if nothing was left to do.

    Raises:
      UsageError: the data, the configuration and the folder do not fit together.
      TrainingError: a loss or gradient is not finite.
      Stopped: SIGTERM or SIGINT came; the state is saved.
      OSError: something could not be written.
    """
    splits = load_splits(config)
    plan = build_plan(config, len(splits.train))
    model = build_model(config, splits.train.image_shape)
    state = TrainState(model, build_optimizer(config, plan.total_steps))
    run = RunDirectory(run_dir)
    run.check(config, splits.describe())
    resumed = _restore(state, run, plan)
    run.write(config, splits.describe())
    _announce(config, plan, splits, model, run, resumed)
    with (
        SignalNote() as note,
        Summaries(run, state.progress) as summaries,
        Console(resumed, plan.total_steps) as console,
    ):
        if not resumed:
            summaries.describe(config, model)
        trainer = Trainer(config, plan, splits, state, run, summaries, console)
        figures = trainer.train(note)
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


def _announce(
    config: Config,
    plan: Plan,
    splits: Splits,
    model: Any,
    run: RunDirectory,
    resumed: int,
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
{plan.epoch(plan.total_steps):.2f} epochs""")
    if resumed:
        print(f"Goes on    at step {resumed} of {run.path}")
    else:
        print(f"Run        {run.path}")
    sys.stdout.flush()


def _say_where_to_look(run: RunDirectory, best_step: int) -> None:
    python = min(sys.executable, os.path.relpath(sys.executable), key=len)
    print(f"""
Pictures   {run.images}
Figures    {run.metrics_jsonl}
Weights    {run.best} (step {best_step}), {run.latest}
Curves     {python} -m tensorboard.main --host=localhost --logdir={run.tensorboard}""")


class Trainer:
    """Runs the inner loop from event to event."""

    def __init__(
        self,
        config: Config,
        plan: Plan,
        splits: Splits,
        state: TrainState,
        run: RunDirectory,
        summaries: Summaries,
        console: Console,
    ):
        """Takes what a run consists of; `state` may be a resumed one."""
        self._config, self._plan, self._state, self._run = config, plan, state, run
        self._summaries, self._console = summaries, console
        self._learning_rate = LearningRate(config, plan.total_steps)
        dataset = make_train_dataset(
            splits.train, config, int(state.step), plan.total_steps
        )
        self._batches = iter(dataset)
        self._train_loop = build_train_loop(state, config)
        self._evaluate = build_evaluate(model_metrics(state.model, config))
        self._eval_dataset = make_eval_dataset(splits.eval, config)
        self._eval_batches = num_eval_batches(splits.eval, config)
        self._panel = _first_images(splits.eval, config)
        self._seconds = 0.0
        self._timed_steps = 0
        self._train_figures: dict[str, float] = {}
        self._figures: dict[str, float] = {}

    def train(self, note: SignalNote) -> dict[str, float]:
        """Trains until the plan ends or early stopping says so.

        Args:
          note: tells whether a signal came.

        Returns:
          The figures of the last evaluation of this call, empty if there was none.

        Raises:
          TrainingError: a loss, gradient or weight is not finite.
          Stopped: a signal came; the state is saved.
        """
        self._train_loop(self._batches, tf.constant(0, tf.int64))  # only compiles
        self._handle_events()
        while not self._is_finished():
            self._stop_if_asked(note)
            self._advance()
            self._stop_if_asked(note)
            self._handle_events()
        return self._figures

    @property
    def _step(self) -> int:
        return int(self._state.step)

    def _is_finished(self) -> bool:
        """Whether the plan is at its end, or the loss has not fallen for too long."""
        plan, progress = self._plan, self._state.progress
        if self._step >= plan.total_steps:
            return True
        patience = self._config.early_stopping_patience
        reference = plan.completed_epochs(progress.reference_step)
        waited = plan.completed_epochs(progress.evaluated_step) - reference
        if not patience or waited < patience:
            return False
        self._console.line(
            f"Stopped early: in {waited} epochs no evaluation loss below "
            f"{progress.reference_loss:.6g} - {self._config.early_stopping_min_delta}"
        )
        return True

    def _advance(self) -> None:
        """Trains up to the next event, or for `steps_per_loop` steps."""
        step = self._step
        next_step = min(self._plan.next_event(step), step + self._config.steps_per_loop)
        started = time.monotonic()
        finite = self._train_loop(
            self._batches, tf.constant(next_step - step, tf.int64)
        )
        if not finite:
            self._fail("the loss or its gradient is not finite")
        self._seconds += time.monotonic() - started
        self._timed_steps += next_step - step
        figures = means(self._state.totals)
        shown = {name: figures[name] for name in ("loss", "psnr")}
        self._console.progress(next_step, figures_text(shown))

    def _handle_events(self) -> None:
        """Does what is due at this step and was not done before a restart."""
        step, progress = self._step, self._state.progress
        if not self._plan.is_event(step) or progress.logged_step == step:
            return
        self._write_training_line(step)
        if self._plan.is_evaluation(step):
            self._evaluate_and_save(step)

    def _write_training_line(self, step: int) -> None:
        """Writes the training figures since the last such line, and starts anew."""
        images = self._timed_steps * self._config.batch_size
        rate = self._learning_rate(tf.constant(step - 1, tf.int64))
        values = means(self._state.totals) | {
            "learning_rate": float(rate),
            "images_per_second": round(images / max(self._seconds, 1e-9), 1),
        }
        self._summaries.scalars("train", step, self._plan.epoch(step), values)
        for total in self._state.totals.values():
            total.assign([0.0, 0.0])
        self._state.progress.logged_step = step
        self._seconds, self._timed_steps = 0.0, 0
        self._train_figures = values

    def _evaluate_and_save(self, step: int) -> None:
        """Evaluates, writes figures and panel, and saves the checkpoints."""
        figures = self._evaluate(self._eval_dataset, self._eval_batches)
        if not math.isfinite(figures["loss"]):
            self._fail("the evaluation loss is not finite")
        epoch = self._plan.epoch(step)
        self._summaries.scalars("eval", step, epoch, figures)
        corrupted, clean = self._panel
        output, _ = autoencode(self._state.model, corrupted, training=False)
        self._summaries.panel(step, clean, corrupted, output.numpy())
        is_best = self._state.progress.record(
            step, figures["loss"], self._config.early_stopping_min_delta
        )
        if is_best:
            self._save(self._run.best)
        self._save(self._run.latest)
        loss, speed = (self._train_figures[n] for n in ("loss", "images_per_second"))
        self._console.line(
            f"epoch {epoch:.2f}  step {step}/{self._plan.total_steps}  "
            f"train loss {loss:.4f}  {speed:,.0f} images/s  |  "
            f"eval {figures_text(figures)}{'  best' if is_best else ''}"
        )
        self._figures = figures

    def _save(self, folder: str) -> None:
        try:
            checkpoints.save(folder, self._step, self._state.arrays())
        except TrainingError as error:
            self._fail(str(error))

    def _stop_if_asked(self, note: SignalNote) -> None:
        """Saves and raises `Stopped` if a signal came."""
        if note.signal_number:
            self._save(self._run.latest)
            name = signal.Signals(note.signal_number).name
            raise Stopped(
                note.signal_number,
                f"{name}: stopped at step {self._step}, which is saved in "
                f"{self._run.latest}; the same command goes on",
            )

    def _fail(self, what: str) -> NoReturn:
        """Raises `TrainingError`, saying where it is and what is safe on disk."""
        step, safe = self._step, checkpoints.newest(self._run.latest)
        raise TrainingError(
            f"{what} at step {step} (epoch {self._plan.epoch(step):.2f}). "
            + (
                f"The last good checkpoint is {safe}"
                if safe
                else "Nothing was saved yet"
            )
        )


def _first_images(source: Source, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The first evaluation images, float32 [n, H, W, C]: (corrupted, clean)."""
    few = dataclasses.replace(config, batch_size=min(_PANEL_COLUMNS, len(source)))
    corrupted, clean, _ = next(iter(make_eval_dataset(source, few)))
    return corrupted.numpy(), clean.numpy()
