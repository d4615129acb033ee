"""The loss scale for float16."""

import tensorflow as tf

from aelab.config import Config


class LossScale:
    """The factor on the loss that keeps float16 gradients from vanishing.

    Dynamic loss scaling (Micikevicius et al. 2018) for `mixed_float16`. A step whose
    loss or gradient is not finite is skipped and halves the scale, or ends the run if
    the scale is 1 already. After 2,000 finite steps in a row it doubles, up to 2**24.
    With another precision the scale is always 1.

    Attributes:
      scale: float32 scalar variable.
      good_steps: int64 scalar variable, finite steps since the last skipped
        step or the last doubling.
      skipped_steps: int64 scalar variable, float16 steps that were not
        finite.
    """

    _INITIAL, _SMALLEST, _LARGEST = 2.0**15, 1.0, 2.0**24
    _GROWTH_STEPS = 2000

    def __init__(self, config: Config):
        self.is_dynamic = config.precision == "mixed_float16"
        self.scale = tf.Variable(self._INITIAL if self.is_dynamic else 1.0)
        self.good_steps = tf.Variable(0, dtype=tf.int64)
        self.skipped_steps = tf.Variable(0, dtype=tf.int64)

    def variables(self) -> dict[str, tf.Variable]:
        """The variables to checkpoint."""
        names = ("scale", "good_steps", "skipped_steps")
        return {name: getattr(self, name) for name in names}

    def metrics(self) -> dict[str, float]:
        """Metrics to log; empty if the scale is fixed."""
        if not self.is_dynamic:
            return {}
        return {
            "loss_scale": float(self.scale.numpy()),
            "skipped_steps": int(self.skipped_steps.numpy()),
        }

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate."""
        return loss * self.scale if self.is_dynamic else loss

    def unscaled(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients of the loss, given the gradients of the scaled loss."""
        return [g / self.scale for g in gradients] if self.is_dynamic else gradients

    def update(self, finite: tf.Tensor) -> tf.Tensor:
        """Updates the scale after a step.

        Args:
          finite: bool scalar, whether the step's loss and gradient are finite.

        Returns:
          bool scalar, whether training may continue. It may not if a step is not finite
          even at the smallest scale, because then the scale is not to blame.
        """
        if not self.is_dynamic:
            return finite
        may_continue = finite | (self.scale > self._SMALLEST)
        good_steps = tf.where(finite, self.good_steps + 1, 0)
        grows = good_steps >= self._GROWTH_STEPS
        factor = tf.where(finite, tf.where(grows, 2.0, 1.0), 0.5)
        scale = tf.clip_by_value(self.scale * factor, self._SMALLEST, self._LARGEST)
        self.scale.assign(scale)
        self.good_steps.assign(tf.where(grows, tf.zeros_like(good_steps), good_steps))
        self.skipped_steps.assign_add(tf.cast(~finite, tf.int64))
        return may_continue
