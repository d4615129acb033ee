"""The learning rate as a function of the step."""

import math

import tensorflow as tf

from aelab.config import Config


class LearningRate:
    """A linear warm-up, then a constant rate or half a cosine down to 0.

    Step t of T steps, w of which are warm-up, has the rate `peak * (t + 1) / w` for
    t < w. After that it is `peak`, or `peak * (1 + cos(pi * (t - w) / (T - w))) / 2`.
    Cosine: Loshchilov and Hutter 2017, without restarts. Warm-up: Goyal et al. 2017.
    """

    def __init__(self, config: Config, total_steps: int):
        self._peak = config.learning_rate
        self._warmup_steps = config.warmup_steps
        self._cosine_steps = 0
        if config.learning_rate_schedule == "cosine":
            self._cosine_steps = max(total_steps - config.warmup_steps, 1)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rate after `step` steps, float32 scalar."""
        step = tf.cast(step, tf.float64)  # float32 can't count beyond 2**24
        rate = tf.constant(self._peak, tf.float64)
        if self._cosine_steps:
            done = (step - self._warmup_steps) / self._cosine_steps
            rate *= (1 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0))) / 2
        if self._warmup_steps:
            rate *= tf.minimum((step + 1) / self._warmup_steps, 1.0)
        return tf.cast(rate, tf.float32)
