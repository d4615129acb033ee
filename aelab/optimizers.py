"""Optimizers by their Keras names, and the learning rate as a function of the step."""

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


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
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
        """The learning rate of the update that follows `step` updates, float32."""
        step = tf.cast(step, tf.float64)  # float32 can't count beyond 2**24
        rate = tf.constant(self._peak, tf.float64)
        if self._cosine_steps:
            done = (step - self._warmup_steps) / self._cosine_steps
            rate *= (1 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0))) / 2
        if self._warmup_steps:
            rate *= tf.minimum((step + 1) / self._warmup_steps, 1.0)
        return tf.cast(rate, tf.float32)


def build_optimizer(config: Config, total_steps: int) -> Any:
    """The Keras optimizer that `config` names; all but the rate is Keras' default.

    Raises:
      UsageError: the installed Keras has a fault in this optimizer.
    """
    if config.optimizer == "muon" and keras.__version__.startswith("3.12."):
        raise UsageError(
            f"--optimizer=muon fails in Keras {keras.__version__} with TensorFlow; "
            "newer ones, from Python 3.11 on, have it right"
        )
    return OPTIMIZERS[config.optimizer](learning_rate=LearningRate(config, total_steps))
