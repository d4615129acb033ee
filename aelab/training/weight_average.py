"""The exponential moving average of the weights."""

import tensorflow as tf

from aelab.models import Autoencoder

_START, _DELAY = 1.0, 10.0  # as in tf.train.ExponentialMovingAverage


def average_weights(
    averaged: Autoencoder,
    trained: Autoencoder,
    decay: float,
    step: tf.Tensor,
    strategy: tf.distribute.Strategy,
) -> None:
    """Moves each averaged weight towards the trained one (Polyak and Juditsky 1992).

    average += (1 - d) (weight - average), with d = min(decay, (1 + t) / (10 + t)) after
    t steps, so that the first weights are soon forgotten. Called outside of replicas.

    Args:
      averaged: the model with the averages, changed in place.
      trained: the same model with the weights that the optimizer has just updated.
      decay: the largest decay, in (0, 1].
      step: int64 scalar, the number of steps before this one.
      strategy: its replicas hold both models.
    """
    taken = tf.cast(step, tf.float32)
    share = 1.0 - tf.minimum(decay, (_START + taken) / (_DELAY + taken))

    def move(average: tf.Variable, weight: tf.Variable) -> None:
        """One average on one replica."""
        average.assign_add(share * (weight - average))

    pairs = zip(averaged.trainable_variables, trained.trainable_variables, strict=True)
    for average, weight in pairs:
        strategy.extended.update(average.value, move, (weight.value,), group=False)
