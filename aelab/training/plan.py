"""The schedule of a run: at which steps to log, evaluate, save and profile."""

from dataclasses import dataclass

from aelab.config import Config


@dataclass(frozen=True)
class Plan:
    """The steps at which something happens.

    Attributes:
      examples: number of training images, N.
      batch_size: images per step, B.
      total_steps: the last step.
      eval_every_epochs: evaluations are at the first step that completes an epoch.
      log_every_steps: log entries are at its multiples and at evaluations.
      checkpoint_every_steps: checkpoints are at its multiples and at evaluations.
      profiled_steps: the step after which a profile begins, and its last step.
    """

    examples: int
    batch_size: int
    total_steps: int
    eval_every_epochs: int
    log_every_steps: int
    checkpoint_every_steps: int
    profiled_steps: tuple[int, int] = (0, 0)

    def epoch(self, step: int) -> float:
        """Epochs completed after `step` steps (fractional)."""
        return step * self.batch_size / self.examples

    def completed_epochs(self, step: int) -> int:
        """Epochs completed after `step` steps (whole)."""
        return step * self.batch_size // self.examples

    def next_evaluation(self, step: int) -> int:
        """The first step after `step` with an evaluation."""
        stride = self.eval_every_epochs * self.examples
        number = step * self.batch_size // stride + 1
        return min(-(-number * stride // self.batch_size), self.total_steps)

    def next_event(self, step: int) -> int:
        """The first step after `step` at which anything happens."""
        every = (self.log_every_steps, self.checkpoint_every_steps)
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
        return _is_multiple(step, self.log_every_steps) or self.is_evaluation(step)

    def is_checkpoint(self, step: int) -> bool:
        """True if `step` is saved even without an evaluation."""
        return _is_multiple(step, self.checkpoint_every_steps)


def _is_multiple(step: int, every: int) -> bool:
    return step > 0 and every > 0 and step % every == 0


def build_plan(config: Config, examples: int) -> Plan:
    """The plan of a run over `examples` training images."""
    first, last = config.profiled_steps()
    steps = config.train_steps or -(-config.epochs * examples // config.batch_size)
    return Plan(
        examples=examples,
        batch_size=config.batch_size,
        total_steps=steps,
        eval_every_epochs=config.eval_every_epochs,
        log_every_steps=config.log_every_steps,
        checkpoint_every_steps=config.checkpoint_every_steps,
        profiled_steps=(first, min(last, steps)),
    )
