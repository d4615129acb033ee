"""The outer loop: runs the compiled loop from event to event.

It owns everything that happens between compiled calls: logging, evaluations, pictures,
checkpoints, early stopping, signals.
"""

import math
import signal
import time
from collections.abc import Mapping

import tensorflow as tf

from aelab.data.pipeline import eval_batch_size, num_eval_batches
from aelab.errors import Stopped, TrainingError, UsageError
from aelab.metrics import Sum, means
from aelab.runs import checkpoints
from aelab.summaries.profile import Profile
from aelab.summaries.summaries import Summaries
from aelab.system.console import Console, metrics_text
from aelab.system.signals import StopRequest
from aelab.system.tensorflow_errors import reason
from aelab.training.loops import (
    build_evaluate,
    build_train_loop,
    eval_batches,
    model_metrics,
    training_batches,
)
from aelab.training.messages import (
    failed_step,
    failure,
    failure_on_images,
    remove_passed_failure,
)
from aelab.training.samples import Sampler, write_codes, write_sample
from aelab.training.schedules import LearningRate
from aelab.training.state import Run


class Trainer:
    """Trains a run from the step of its state to its end."""

    def __init__(
        self, run: Run, summaries: Summaries | None, console: Console, stop: StopRequest
    ):
        """Opens the input; `summaries` is None on a worker that writes no files."""
        self._run, self._plan, self._state = run, run.plan, run.state
        self._directory, self._distribution = run.directory, run.distribution
        self._summaries, self._console, self._stop = summaries, console, stop
        self._config, self._is_chief = run.config, run.distribution.is_chief
        self._learning_rate = LearningRate(run.config, run.plan.total_steps)
        self._first_step = self._step = int(run.state.step)
        config, state, held_out = run.config, run.state, run.splits.eval
        use_xla, blocks = run.distribution.use_xla, run.distribution.blocks
        self._batches = training_batches(state, config, run.splits.train)
        self._eval_batches = eval_batches(state, config, held_out)
        self._replicas = state.strategy.num_replicas_in_sync
        self._num_eval_batches = num_eval_batches(held_out, config, self._replicas)
        self._sampler = Sampler(state.evaluated, held_out, config)
        self._train_loop = build_train_loop(state, config, use_xla, blocks)
        metrics_of = model_metrics(state.evaluated, config)
        eval_blocks = 1 if config.whole_pictures else blocks
        self._evaluate = build_evaluate(metrics_of, state.strategy, eval_blocks)
        self._profile = Profile(run.directory.tensorboard if self._is_chief else "")
        self._saved_at, self._saved_step = time.monotonic(), -1
        self._seconds, self._timed_steps = 0.0, 0
        self._train_text = ""
        self._metrics: dict[str, float] = {}

    def train(self) -> dict[str, float]:
        """Trains until the end of the plan or until early stopping.

        Returns:
          The metrics of the last evaluation of this call; empty if there was none.

        Raises:
          TrainingError: a loss, gradient or weight is not finite.
          UsageError: XLA can't compile the model.
          OSError, tf.errors.OpError: a file can't be written.
          Stopped: a signal came; the state is saved.
        """
        if checkpoints.newest(self._directory.latest) is None:
            # A missing checkpoint later on always means that it was lost.
            self._save_latest()
        self._train_loop(self._batches, tf.constant(0, tf.int64))  # only traces
        self._evaluate_if_due()
        with self._profile:
            while not self._is_finished():
                self._stop_if_requested()
                self._profile.run(self._plan.is_profiled(self._step))
                self._advance()
                self._profile.run(self._plan.is_profiled(self._step))
                self._log_if_due()
                self._evaluate_if_due()
                self._save_if_due()
        if self._summaries:
            write_codes(self._summaries, self._run)
        return self._metrics

    def _is_finished(self) -> bool:
        """True at the end of the plan, or if the loss has not improved for too long."""
        plan, progress = self._plan, self._state.progress
        if self._step >= plan.total_steps:
            return True
        if not plan.is_stopped_early(progress):
            return False
        self._console.line(
            f"Stopped early: no evaluation loss in {plan.waited_epochs(progress)} "
            f"epochs was below {progress.reference_loss:.6g} - "
            f"{self._config.early_stopping_min_delta}"
        )
        return True

    def _advance(self) -> None:
        """Trains up to the next event, or for `steps_per_loop` steps."""
        step = self._step
        next_step = min(self._plan.next_event(step), step + self._config.steps_per_loop)
        started = time.monotonic()
        may_continue = self._run_loop(next_step - step)
        self._step = int(self._state.step)
        if not may_continue:
            raise failed_step(self._run, self._step)
        self._seconds += time.monotonic() - started
        self._timed_steps += next_step - step
        self._console.progress(next_step, self._progress_text)

    def _progress_text(self) -> str:
        totals = self._state.totals
        names = [name for name in ("loss", "psnr") if name in totals]
        return metrics_text(means({name: totals[name] for name in names}))

    def _run_loop(self, num_steps: int) -> bool:
        """Trains `num_steps` steps; returns True if training may continue."""
        config = self._config
        try:
            count = tf.constant(num_steps, tf.int64)
            return bool(self._train_loop(self._batches, count))
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            # XLA compiles on first use, before any update.
            if not self._distribution.use_xla or self._step > self._first_step:
                raise
            raise UsageError(
                f"--jit_compile={config.jit_compile}: XLA can't compile "
                f"--model={config.model} with --precision={config.precision}, "
                f"--optimizer={config.optimizer} and --strategy={config.strategy} "
                f"here; use --jit_compile=false ({reason(error)})"
            ) from None

    def _log_if_due(self) -> None:
        """Writes the training metrics since the last log entry and resets them."""
        step, state = self._step, self._state
        if not self._plan.is_log_step(step):
            return
        images = self._timed_steps * self._config.batch_size
        rate = self._learning_rate(tf.constant(step - 1, tf.int64))
        seconds, waited = max(self._seconds, 1e-9), float(state.seconds_waited.numpy())
        values = means(state.totals) | {
            "learning_rate": float(rate),
            "images_per_second": round(images / seconds, 1),
            "input_wait": round(waited / seconds, 4),
        }
        values |= state.loss_scale.metrics()
        if self._summaries:
            self._summaries.scalars("train", step, self._plan.epoch(step), values)
        state.reset_totals()
        state.progress.logged_step = step
        self._seconds, self._timed_steps = 0.0, 0
        loss, speed = values["loss"], values["images_per_second"]
        self._train_text = f"train loss {loss:.4f}  {speed:,.0f} images/s  |  "

    def _evaluate_if_due(self) -> None:
        """Evaluates, writes metrics and pictures, and saves the checkpoints."""
        step, progress = self._step, self._state.progress
        if not self._plan.is_evaluation(step) or progress.evaluated_step == step:
            return
        metrics = self._evaluate(
            self._eval_batches, self._num_eval_batches, self._after_eval_batch
        )
        epoch = self._plan.epoch(step)
        if self._summaries:
            self._summaries.scalars("eval", step, epoch, metrics)
            write_sample(self._summaries, self._sampler(), self._state, step)
        min_delta = self._config.early_stopping_min_delta
        is_best = progress.record(step, metrics["loss"], min_delta)
        if is_best:
            self._save(self._directory.best)
        self._save_latest()
        self._console.line(
            f"epoch {epoch:.2f}  step {step}/{self._plan.total_steps}  "
            f"{self._train_text}eval {metrics_text(metrics)}"
            f"{'  best' if is_best else ''}"
        )
        self._metrics = metrics

    def _after_eval_batch(self, number: int, sums: Mapping[str, Sum]) -> None:
        """Aborts the evaluation on a stop request or a loss that is not finite."""
        if not math.isfinite(sums["loss"].total):
            examples, replicas = len(self._run.splits.eval), self._replicas
            batch_size = eval_batch_size(self._config, replicas)
            first = number * batch_size
            indices = list(range(first, min(first + batch_size, examples)))
            what = "the evaluation loss"
            raise failure_on_images(self._run, self._step, what, "eval", indices)
        self._stop_if_requested()

    def _save_if_due(self) -> None:
        """Saves at the steps and times that the configuration asks for."""
        minutes = self._config.checkpoint_every_minutes
        is_late = minutes and time.monotonic() - self._saved_at > 60 * minutes
        is_due = is_late or self._plan.is_checkpoint(self._step)
        if is_due and self._saved_step != self._step:
            self._save_latest()

    def _save_latest(self) -> None:
        if self._summaries:
            self._summaries.sync()  # the lines that the checkpoint assumes on disk
        self._save(self._directory.latest, self._config.keep_checkpoints)
        if self._is_chief:
            remove_passed_failure(self._run)
        self._saved_at, self._saved_step = time.monotonic(), self._step

    def _save(self, folder: str, keep: int = 1) -> None:
        if not self._is_chief:
            return
        try:
            checkpoints.save(folder, self._step, self._state.arrays(), keep)
        except TrainingError as error:
            raise failure(self._run, self._step, str(error)) from None

    def _stop_if_requested(self) -> None:
        """Saves and raises `Stopped` if any worker has received a signal."""
        number = self._distribution.max_over_workers(self._stop.signal_number)
        if number:
            self._save_latest()
            self._distribution.barrier()  # until the chief has saved
            name = signal.Signals(number).name
            where = f"in {self._directory.latest}" if self._is_chief else "by worker 0"
            raise Stopped(
                number,
                f"{name}: stopped at step {self._step}, which is saved {where}; "
                "the same command resumes",
            )
