"""The schedule of a run: at which steps to log, evaluate, save and profile."""

import math
from dataclasses import dataclass

from aelab.config import Config


@dataclass
class Progress:
    """The memory of the outer loop; part of every checkpoint.

    Attributes:
      logged_step: step of the last log entry.
      evaluated_step: step of the last evaluation.
      best_loss: lowest evaluation loss so far.
      best_step: its step, which is the step of the best checkpoint.
      reference_loss: the loss that the next evaluation must beat by `min_delta`, or
        early stopping begins to wait.
      reference_step: its step.
    """

    logged_step: int = 0
    evaluated_step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    reference_loss: float = math.inf
    reference_step: int = 0

    def record(self, step: int, loss: float, min_delta: float) -> bool:
        """Records an evaluation; returns True if it is the best so far."""
        self.evaluated_step = step
        if loss < self.reference_loss - min_delta:
            self.reference_loss, self.reference_step = loss, step
        if loss >= self.best_loss:
            return False
        self.best_loss, self.best_step = loss, step
        return True


@dataclass(frozen=True)
class Plan:
    """The steps at which something happens, in a run over `examples` training images.

    Evaluations are at the first step that completes an epoch. Log entries and
    checkpoints are at multiples of their intervals, and at evaluations.
    """

    config: Config
    examples: int

    @property
    def total_steps(self) -> int:
        """The last step."""
        images = self.config.epochs * self.examples
        return self.config.train_steps or -(-images // self.config.batch_size)

    @property
    def profiled_steps(self) -> tuple[int, int]:
        """The step after which the profile begins, and its last step; 0, 0 for none."""
        first, last = self.config.profiled_steps()
        return first, min(last, self.total_steps)

    def epoch(self, step: int) -> float:
        """Epochs completed after `step` steps (fractional)."""
        return step * self.config.batch_size / self.examples

    def completed_epochs(self, step: int) -> int:
        """Epochs completed after `step` steps (whole)."""
        return step * self.config.batch_size // self.examples

    def waited_epochs(self, progress: Progress) -> int:
        """Epochs without a better evaluation loss, for early stopping."""
        evaluated = self.completed_epochs(progress.evaluated_step)
        return evaluated - self.completed_epochs(progress.reference_step)

    def is_stopped_early(self, progress: Progress) -> bool:
        """True if the loss has not improved for too long."""
        patience = self.config.early_stopping_patience
        return 0 < patience <= self.waited_epochs(progress)

    def is_complete(self, step: int, progress: Progress) -> bool:
        """True if nothing is left to do after `step`."""
        is_end = step >= self.total_steps and progress.evaluated_step == step
        return is_end or self.is_stopped_early(progress)

    def next_evaluation(self, step: int) -> int:
        """The first step after `step` with an evaluation."""
        stride = self.config.eval_every_epochs * self.examples
        number = step * self.config.batch_size // stride + 1
        return min(-(-number * stride // self.config.batch_size), self.total_steps)

    def next_event(self, step: int) -> int:
        """The first step after `step` at which anything happens."""
        every = (self.config.log_every_steps, self.config.checkpoint_every_steps)
        multiples = [(step // n + 1) * n for n in every if n]
        single = [n for n in self.profiled_steps if n > step]
        return min([self.next_evaluation(step), *multiples, *single])

    def is_profiled(self, step: int) -> bool:
        """True if the step after `step` is part of the profile."""
        first, last = self.profiled_steps
        return first <= step < last

    def is_evaluation(self, step: int) -> bool:
        """True if `step` has an evaluation."""
        return step > 0 and self.next_evaluation(step - 1) == step

    def is_log_step(self, step: int) -> bool:
        """True if training metrics are logged at `step`."""
        return _is_multiple(step, self.config.log_every_steps) or self.is_evaluation(
            step
        )

    def is_checkpoint(self, step: int) -> bool:
        """True if `step` is saved even without an evaluation."""
        return _is_multiple(step, self.config.checkpoint_every_steps)


def _is_multiple(step: int, every: int) -> bool:
    return step > 0 and every > 0 and step % every == 0
