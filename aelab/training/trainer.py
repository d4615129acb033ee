"""Runs the compiled loop from event to event: figures, evaluations, checkpoints."""

import contextlib
import dataclasses
import json
import math
import signal
import time
from typing import NoReturn

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.data.pipeline import (
    distribute,
    example_indices,
    make_eval_dataset,
    make_train_dataset,
    num_eval_batches,
)
from aelab.data.sources import Source, Splits
from aelab.distributed.devices import Distribution
from aelab.errors import Stopped, TrainingError, UsageError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.summaries.panels import num_columns
from aelab.summaries.profile import Profile
from aelab.summaries.summaries import Summaries
from aelab.system.console import Console, metrics_text
from aelab.system.files import write_bytes
from aelab.system.signals import StopRequest
from aelab.training.optimizers import LearningRate
from aelab.training.plan import Plan
from aelab.training.state import TrainState
from aelab.training.step import (
    autoencode,
    build_evaluate,
    build_train_loop,
    code_rows,
    means,
    model_metrics,
)


class Trainer:
    """Runs the inner loop from event to event."""

    def __init__(
        self,
        config: Config,
        plan: Plan,
        splits: Splits,
        state: TrainState,
        distribution: Distribution,
        run: RunDirectory,
        summaries: Summaries | None,
        console: Console,
        note: StopRequest,
    ):
        """Takes what a run consists of; `state` may be a resumed one.

        `summaries` is None on a worker that writes no files; `note` tells whether a
        signal came.
        """
        self._config, self._plan, self._state, self._run = config, plan, state, run
        self._distribution = distribution
        self._summaries, self._console, self._note = summaries, console, note
        self._examples = len(splits.train), len(splits.eval)
        self._learning_rate = LearningRate(config, plan.total_steps)
        self._first_step = self._step = int(state.step)
        self._open_input(splits)
        self._compile()
        self._profile = Profile(run.tensorboard if distribution.is_chief else "")
        self._saved_at, self._saved_step = time.monotonic(), -1
        self._seconds = 0.0
        self._timed_steps = 0
        self._train_text = ""
        self._figures: dict[str, float] = {}

    def _open_input(self, splits: Splits) -> None:
        """Makes the datasets, from the step on at which the run stands."""
        config, first_step = self._config, self._first_step
        strategy = self._distribution.strategy
        self._batches = iter(
            distribute(
                strategy,
                lambda share: make_train_dataset(
                    splits.train, config, first_step, share
                ),
            )
        )
        self._eval_dataset = distribute(
            strategy, lambda share: make_eval_dataset(splits.eval, config, share)
        )
        self._num_eval_batches = num_eval_batches(splits.eval, config)
        self._eval_source = splits.eval
        self._panel = _first_images(splits.eval, config)

    def _compile(self) -> None:
        """Builds what is compiled when it is first called."""
        state, config, distribution = self._state, self._config, self._distribution
        blocks = distribution.blocks
        self._train_loop = build_train_loop(state, config, distribution.use_xla, blocks)
        self._evaluate = build_evaluate(
            model_metrics(state.model, config), distribution.strategy, blocks
        )
        self._autoencode = tf.function(
            lambda images: autoencode(state.model, images, training=False),
            autograph=False,
        )

    def train(self) -> dict[str, float]:
        """Trains until the plan ends or early stopping says so.

        Returns:
          The figures of the last evaluation of this call, empty if there was none.

        Raises:
          TrainingError: a loss, gradient or weight is not finite.
          UsageError: XLA can't compile the model.
          OSError, tf.errors.OpError: a file can't be written.
          Stopped: a signal came; the state is saved.
        """
        if checkpoints.newest(self._run.latest) is None:
            # From now on a run without a checkpoint is one that lost it.
            self._save_latest()
        self._train_loop(self._batches, tf.constant(0, tf.int64))  # only traces
        self._evaluate_if_due()
        with self._profile:
            self._train_to_the_end()
        if self._summaries:
            encoder = self._state.model.encoder
            self._summaries.projector(self._eval_source, self._config, encoder)
        return self._figures

    def _train_to_the_end(self) -> None:
        while not self._is_finished():
            self._stop_if_asked()
            self._profile.run(self._plan.is_profiled(self._step))
            self._advance()
            self._profile.run(self._plan.is_profiled(self._step))
            self._log_if_due()
            self._evaluate_if_due()
            self._save_if_due()

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
        is_finite = self._run_loop(next_step - step)
        self._step = int(self._state.step)
        if not is_finite:
            self._fail_of_batch("the loss or its gradient")
        self._seconds += time.monotonic() - started
        self._timed_steps += next_step - step
        self._console.progress(next_step, self._progress_text)

    def _progress_text(self) -> str:
        totals = self._state.totals
        return metrics_text(means({name: totals[name] for name in ("loss", "psnr")}))

    def _run_loop(self, num_steps: int) -> bool:
        """Trains `num_steps` steps; returns whether all were finite."""
        config = self._config
        try:
            count = tf.constant(num_steps, tf.int64)
            return bool(self._train_loop(self._batches, count))
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            # XLA compiles when it is first needed, which is before any update.
            if not self._distribution.use_xla or self._step > self._first_step:
                raise
            raise UsageError(
                f"--jit_compile={config.jit_compile}: XLA can't compile "
                f"--model={config.model} with --precision={config.precision}, "
                f"--optimizer={config.optimizer} and --strategy={config.strategy} "
                "here; --jit_compile=false does without "
                f"({error.message})"
            ) from None

    def _log_if_due(self) -> None:
        """Writes the training figures since the last such line, and starts anew."""
        step, progress = self._step, self._state.progress
        if not self._plan.is_log_step(step):
            return
        images = self._timed_steps * self._config.batch_size
        rate = self._learning_rate(tf.constant(step - 1, tf.int64))
        seconds, waited = max(self._seconds, 1e-9), self._state.seconds_waited
        values = means(self._state.totals) | {
            "learning_rate": float(rate),
            "images_per_second": round(images / seconds, 1),
            "input_wait": round(float(waited.numpy()) / seconds, 4),
        }
        values |= self._state.loss_scale.figures()
        if self._summaries:
            self._summaries.scalars("train", step, self._plan.epoch(step), values)
        for total in self._state.totals.values():
            total.assign([0.0, 0.0])
        waited.assign(0.0)
        progress.logged_step = step
        self._seconds, self._timed_steps = 0.0, 0
        loss, speed = values["loss"], values["images_per_second"]
        self._train_text = f"train loss {loss:.4f}  {speed:,.0f} images/s  |  "

    def _evaluate_if_due(self) -> None:
        """Evaluates, writes figures and panel, and saves the checkpoints."""
        step, progress = self._step, self._state.progress
        if not self._plan.is_evaluation(step) or progress.evaluated_step == step:
            return
        figures = self._evaluate(
            self._eval_dataset, self._num_eval_batches, self._after_eval_batch
        )
        epoch = self._plan.epoch(step)
        if self._summaries:
            self._summaries.scalars("eval", step, epoch, figures)
            self._show(self._summaries)
        min_delta = self._config.early_stopping_min_delta
        is_best = progress.record(step, figures["loss"], min_delta)
        if is_best:
            self._save(self._run.best)
        self._save_latest()
        self._console.line(
            f"epoch {epoch:.2f}  step {step}/{self._plan.total_steps}  "
            f"{self._train_text}eval {metrics_text(figures)}"
            f"{'  best' if is_best else ''}"
        )
        self._figures = figures

    def _show(self, summaries: Summaries) -> None:
        """Writes the panel, and what weights and code look like."""
        corrupted, clean = self._panel
        output, code = self._autoencode(corrupted)
        summaries.panel(self._step, clean, corrupted, output.numpy())
        weights = {v.path: v.numpy() for v in self._state.model.weights}
        summaries.histograms(self._step, weights, code_rows(code).numpy())

    def _after_eval_batch(self, number: int, totals: dict[str, tf.Tensor]) -> None:
        """Leaves an evaluation that was asked to stop, or whose loss is not finite."""
        if not math.isfinite(totals["loss"][0]):
            batch_size, examples = self._config.batch_size, self._examples[1]
            first = number * batch_size
            indices = range(first, min(first + batch_size, examples))
            self._fail_of_images("the evaluation loss", "eval", list(indices))
        self._stop_if_asked()

    def _save_if_due(self) -> None:
        """Saves at steps and times that are asked for."""
        minutes = self._config.checkpoint_every_minutes
        is_late = minutes and time.monotonic() - self._saved_at > 60 * minutes
        is_due = is_late or self._plan.is_checkpoint(self._step)
        if is_due and self._saved_step != self._step:
            self._save_latest()

    def _save_latest(self) -> None:
        if self._summaries:
            self._summaries.sync()  # the lines that the checkpoint takes for written
        self._save(self._run.latest, self._config.keep_checkpoints)
        self._saved_at, self._saved_step = time.monotonic(), self._step

    def _save(self, folder: str, keep: int = 1) -> None:
        if not self._distribution.is_chief:
            return
        try:
            checkpoints.save(folder, self._step, self._state.arrays(), keep)
        except TrainingError as error:
            self._fail(str(error))

    def _stop_if_asked(self) -> None:
        """Saves and raises `Stopped` if a signal came, to whichever worker."""
        number = self._distribution.max_over_workers(self._note.signal_number)
        if number:
            self._save_latest()
            self._distribution.barrier()  # for the chief to have saved it
            name = signal.Signals(number).name
            is_chief = self._distribution.is_chief
            where = f"in {self._run.latest}" if is_chief else "by worker 0"
            raise Stopped(
                number,
                f"{name}: stopped at step {self._step}, which is saved {where}; "
                "the same command goes on",
            )

    def _fail_of_batch(self, what: str) -> NoReturn:
        """Fails, and tells the images of the training batch that was the last."""
        batch_size, seed = self._config.batch_size, self._config.seed
        first = tf.constant((self._step - 1) * batch_size, tf.int64)
        indices = example_indices(first, batch_size, self._examples[0], seed)
        self._fail_of_images(what, "train", indices.numpy().tolist())

    def _fail_of_images(self, what: str, split: str, indices: list[int]) -> NoReturn:
        """Fails as `what` is not finite, and writes of which images."""
        path, told = self._run.not_finite_json, f"; the batch's images are {indices}"
        content = {"step": self._step, "split": split, "image_indices": indices}
        if self._distribution.is_chief:
            with contextlib.suppress(OSError):
                write_bytes(path, json.dumps(content).encode() + b"\n")
                told = f"; {path} has the indices of the batch's images"
        self._fail(f"{what} is not finite", told)

    def _fail(self, what: str, told: str = "") -> NoReturn:
        """Raises `TrainingError`, saying where it is and what is safe on disk."""
        step = self._step
        raise TrainingError(
            f"{what} at step {step} (epoch {self._plan.epoch(step):.2f}){told}. "
            + last_checkpoint_sentence(self._run, self._distribution)
        )


def last_checkpoint_sentence(run: RunDirectory, distribution: Distribution) -> str:
    """A sentence on what a failed run leaves behind."""
    if distribution.is_chief:
        return checkpoints.last_checkpoint_sentence(run.latest)
    return "What was saved is with worker 0, in its --run_dir"


def _first_images(source: Source, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The first evaluation images, float32 [n, H, W, C]: (corrupted, clean)."""
    columns = min(num_columns(source.image_shape), len(source))
    few = dataclasses.replace(config, batch_size=columns)
    corrupted, clean, _ = next(iter(make_eval_dataset(source, few)))
    return corrupted.numpy(), clean.numpy()
