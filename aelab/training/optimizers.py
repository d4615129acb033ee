"""Optimizers by their Keras names, the learning rate by the step, the loss scale."""

import math
from typing import Any

import keras
import tensorflow as tf

from aelab.config import Config
from aelab.errors import UsageError

# Left out: wrappers (LossScaleOptimizer, MultiOptimizer), and ScheduleFreeAdamW, whose
# weights must be exchanged for others before each evaluation.
OPTIMIZERS: dict[str, Any] = {
    "adadelta": keras.optimizers.Adadelta,
    "adafactor": keras.optimizers.Adafactor,
    "adagrad": keras.optimizers.Adagrad,
    "adam": keras.optimizers.Adam,
    "adamax": keras.optimizers.Adamax,
    "adamw": keras.optimizers.AdamW,
    "ftrl": keras.optimizers.Ftrl,
    "lamb": keras.optimizers.Lamb,
    "lion": keras.optimizers.Lion,
    "muon": keras.optimizers.Muon,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}


class LearningRate:
    """A linear warm-up, then a constant, or half a cosine down to 0.

    Step t of T, w of them warm-up, has the rate `peak * (t + 1) / w` for t < w; after
    that `peak`, or `peak * (1 + cos(pi * (t - w) / (T - w))) / 2`. Cosine: Loshchilov
    and Hutter 2017, without restarts; warm-up: Goyal et al. 2017.
    """

    def __init__(self, config: Config, total_steps: int):
        self._peak = config.learning_rate
        self._warmup_steps = config.warmup_steps
        self._cosine_steps = 0
        if config.learning_rate_schedule == "cosine":
            self._cosine_steps = max(total_steps - config.warmup_steps, 1)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rate of the step that follows `step` steps, float32."""
        step = tf.cast(step, tf.float64)  # float32 can't count beyond 2**24
        rate = tf.constant(self._peak, tf.float64)
        if self._cosine_steps:
            done = (step - self._warmup_steps) / self._cosine_steps
            rate *= (1 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0))) / 2
        if self._warmup_steps:
            rate *= tf.minimum((step + 1) / self._warmup_steps, 1.0)
        return tf.cast(rate, tf.float32)


def build_optimizer(config: Config, total_steps: int, step: tf.Variable) -> Any:
    """The Keras optimizer that `config` names, its defaults but for rate and decay.

    Args:
      config: names the optimizer and its learning rate.
      total_steps: length of the run, for the schedule.
      step: int64 variable, the run's own step. Keras' count of updates stands still on
        skipped steps, as the bias correction of Adam needs it; the rate goes on.

    Returns:
      An optimizer whose `apply` takes gradients that are summed over replicas.

    Raises:
      UsageError: the installed Keras has a fault in this optimizer.
    """
    if config.optimizer == "muon" and keras.__version__.startswith("3.12."):
        raise UsageError(
            f"--optimizer=muon fails in Keras {keras.__version__} with TensorFlow; "
            "newer ones, from Python 3.11 on, have it right"
        )
    rate = LearningRate(config, total_steps)
    decay = {}
    if config.optimizer == "adamw":  # Loshchilov and Hutter 2019
        decay = {"weight_decay": config.weight_decay}
    optimizer = OPTIMIZERS[config.optimizer](learning_rate=lambda: rate(step), **decay)
    # Keras would sum over replicas as well, which makes them too large; what must be
    # known first, the norm of the sum and whether it is finite, it does not tell. (Muon
    # and Nadam still take means of what all replicas have alike.)
    optimizer._all_reduce_sum_gradients = list
    return optimizer


class LossScale:
    """What the loss is multiplied by, so that float16 gradients do not vanish.

    Dynamic loss scaling (Micikevicius et al. 2018) for `mixed_float16`: halved after a
    step whose gradient is not finite, which is then skipped, and doubled after 2,000
    steps without. With another precision it is 1, and such a step ends the run.

    Attributes:
      scale: float32 scalar variable.
      good_steps: int64 scalar variable, steps since the scale was changed.
      skipped_steps: int64 scalar variable, steps skipped so far.
    """

    _FIRST, _LEAST, _MOST = 2.0**15, 1.0, 2.0**24
    _GROWTH_STEPS = 2000

    def __init__(self, config: Config):
        self.is_dynamic = config.precision == "mixed_float16"
        self.scale = tf.Variable(self._FIRST if self.is_dynamic else 1.0)
        self.good_steps = tf.Variable(0, dtype=tf.int64)
        self.skipped_steps = tf.Variable(0, dtype=tf.int64)

    def variables(self) -> dict[str, tf.Variable]:
        """What must survive, by name."""
        names = ("scale", "good_steps", "skipped_steps")
        return {name: getattr(self, name) for name in names}

    def figures(self) -> dict[str, float]:
        """What a training line says of it; nothing if the scale is fixed."""
        if not self.is_dynamic:
            return {}
        return {
            "loss_scale": float(self.scale.numpy()),
            "skipped_steps": int(self.skipped_steps.numpy()),
        }

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss whose gradient is to be taken."""
        return loss * self.scale if self.is_dynamic else loss

    def unscaled(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients of the loss itself, from those of the scaled one."""
        return [g / self.scale for g in gradients] if self.is_dynamic else gradients

    def update(self, finite: tf.Tensor) -> tf.Tensor:
        """Takes note of a step.

        Args:
          finite: bool scalar, whether its loss and gradient are finite.

        Returns:
          bool scalar, whether training may go on: not if a step is not finite even at
          the smallest scale, as it is not the scale that is wrong then.
        """
        if not self.is_dynamic:
            return finite
        may_go_on = finite | (self.scale > self._LEAST)
        good_steps = tf.where(finite, self.good_steps + 1, 0)
        grows = good_steps >= self._GROWTH_STEPS
        factor = tf.where(finite, tf.where(grows, 2.0, 1.0), 0.5)
        scale = tf.clip_by_value(self.scale * factor, self._LEAST, self._MOST)
        self.scale.assign(scale)
        self.good_steps.assign(tf.where(grows, tf.zeros_like(good_steps), good_steps))
        self.skipped_steps.assign_add(tf.cast(~finite, tf.int64))
        return may_go_on
