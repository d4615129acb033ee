"""One update of the weights, from top to bottom: start reading here.

The step knows nothing but its batch: no logging, no intervals, no Python side effects.
`loops.py` has the compiled loop around it, `trainer.py` what happens between calls.
"""

import functools

import tensorflow as tf

from aelab.config import Config
from aelab.data.pipeline import Batch
from aelab.distributed.reduce import (
    first_replica,
    sum_over_blocks,
    sum_over_replicas,
)
from aelab.metrics import Sum, sum_over_images
from aelab.training.objective import batch_metrics, forward
from aelab.training.state import TrainState

Gradient = list[tf.Tensor]


def loss_gradient(
    state: TrainState, config: Config, batch: Batch
) -> tuple[Gradient, dict[str, Sum]]:
    """The share of a batch in the gradient of the loss, and its sums of metrics."""
    model = state.autoencoder
    with tf.GradientTape() as tape:
        result = forward(model, batch.corrupted, training=True, dither=batch.dither)
        metrics = batch_metrics(config, batch.clean, result, training=True)
        loss = tf.reduce_sum(metrics["loss"]) / config.batch_size
        scaled_loss = state.loss_scale.scaled(loss)
    gradient = tape.gradient(scaled_loss, model.trainable_variables)
    return gradient, sum_over_images(metrics)


def train_step(
    state: TrainState, config: Config, batch: Batch, blocks: int, use_xla: bool
) -> tf.Tensor:
    """Updates the weights once, on all replicas, and counts the step.

    A step whose loss or gradient is not finite changes neither weights nor sums.

    Args:
      state: changed in place.
      config: the loss, the global batch size, and the norm to clip the gradient to.
      batch: the rows of each replica.
      blocks: number of blocks that each replica splits its rows into, to run in
        parallel.
      use_xla: whether XLA compiles the computation of the gradient.

    Returns:
      bool scalar, whether training may continue.
    """
    block_gradient = functools.partial(loss_gradient, state, config)
    if use_xla:
        block_gradient = tf.function(block_gradient, jit_compile=True, autograph=False)

    def replica_gradient(*rows: tf.Tensor) -> tuple[Gradient, dict[str, Sum]]:
        results = sum_over_blocks(block_gradient, blocks, Batch(*rows))
        gradient, sums = sum_over_replicas(results)
        gradient = state.loss_scale.unscaled(gradient)
        norm = tf.linalg.global_norm(gradient)
        if limit := config.gradient_clip_norm:
            gradient, _ = tf.clip_by_global_norm(gradient, limit, use_norm=norm)
        return gradient, sums | {"gradient_norm": Sum(norm, tf.constant(1.0))}

    def update(gradient: Gradient) -> None:
        state.optimizer.apply(gradient, state.autoencoder.trainable_variables)

    gradient, sums = state.strategy.run(replica_gradient, args=batch)
    sums = first_replica(state.strategy, sums)
    numbers = [sums["loss"].total, sums["gradient_norm"].total]
    finite = tf.reduce_all(tf.math.is_finite(tf.stack(numbers)))
    tf.cond(finite, lambda: state.strategy.run(update, (gradient,)), lambda: None)
    return state.count_step(sums, finite)
