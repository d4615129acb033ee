"""One update of the weights, from top to bottom: start reading here.

The step computes on tensors only: logging, intervals and files are not its business.
`loops.py` has the compiled loop around it, `trainer.py` what happens between calls.
"""

import functools

import tensorflow as tf

from aelab.config import Config
from aelab.data.batch import Batch
from aelab.distributed.reduce import (
    first_replica,
    sum_over_blocks,
    sum_over_replicas,
)
from aelab.metrics import Sum, sum_over_images
from aelab.training.objective import forward, training_metrics
from aelab.training.state import TrainState
from aelab.training.weight_average import average_weights

Gradient = list[tf.Tensor]

_MAX_NORM = 1e30  # a limit that float32 can't hold would make NaN of the gradient


def loss_gradient(
    state: TrainState, config: Config, rows: Batch
) -> tuple[Gradient, dict[str, Sum]]:
    """These rows' part of the gradient of the scaled loss, and sums of metrics."""
    model = state.autoencoder
    with tf.GradientTape() as tape:
        dither = rows.dither if model.dither_size else None
        result = forward(model, rows.corrupted, training=True, dither=dither)
        per_image = training_metrics(config, rows, result)
        loss = tf.reduce_sum(per_image["loss"]) / config.batch_size  # the global one
        scaled_loss = state.loss_scale.scaled(loss)
    gradient = tape.gradient(scaled_loss, model.trainable_variables)
    return gradient, sum_over_images(per_image)


def train_step(
    state: TrainState, config: Config, batch: Batch, blocks: int, xla_per_block: bool
) -> tf.Tensor:
    """Updates the weights in `state` once, on all replicas, and counts the step.

    If the loss or the gradient's norm is not finite, weights, averages, optimizer and
    sums of metrics stay as they are, but `step` counts: data and learning rate follow
    it, not Keras' `iterations`. With another precision than float16, or at loss scale
    1, this ends training. Else the scale halves; 2,000 finite steps in a row double it.

    Args:
      state: changed in place.
      config: the loss, the global batch size and the maximum norm of the gradient.
      batch: one tensor per field and replica, with `batch_size / replicas` rows each.
      blocks: number of blocks that each replica splits its rows into.
      xla_per_block: whether XLA compiles the gradient of each block.

    Returns:
      bool scalar, whether training may continue; if not, `trainer.py` raises.
    """
    block_gradient = functools.partial(loss_gradient, state, config)
    if xla_per_block:
        block_gradient = tf.function(block_gradient, jit_compile=True, autograph=False)

    def replica_gradient(*rows: tf.Tensor) -> tuple[Gradient, dict[str, Sum]]:
        """The clipped gradient and the metrics, summed over all replicas."""
        results = sum_over_blocks(block_gradient, blocks, Batch(*rows))
        gradient, sums = sum_over_replicas(results)
        gradient = state.loss_scale.unscaled(gradient)
        norm = tf.linalg.global_norm(gradient)
        norm_metric = Sum(norm, tf.constant(1.0))  # counts steps, not images
        if limit := min(config.gradient_clip_norm, _MAX_NORM):
            gradient, _ = tf.clip_by_global_norm(gradient, limit, use_norm=norm)
        return gradient, sums | {"gradient_norm": norm_metric}

    def apply(gradient: Gradient) -> None:
        """The optimizer's update on one replica."""
        # The same on all replicas; `build_optimizer` has turned off Keras' own sum.
        state.optimizer.apply(gradient, state.autoencoder.trainable_variables)

    def update() -> None:
        """The update on all replicas, and of the averaged weights."""
        state.strategy.run(apply, (gradient,))
        if decay := config.weight_average:
            models = state.evaluated, state.autoencoder
            average_weights(*models, decay, state.step, state.strategy)

    gradient, sums = state.strategy.run(replica_gradient, args=batch)
    sums = first_replica(state.strategy, sums)
    numbers = [sums["loss"].total, sums["gradient_norm"].total]
    finite = tf.reduce_all(tf.math.is_finite(tf.stack(numbers)))
    # Keras' update is a point where replicas meet, so no replica may have a condition.
    tf.cond(finite, update, lambda: None)
    for name, each in sums.items():
        state.totals[name].assign_add(tf.where(finite, tf.stack([*each]), 0.0))
    state.step.assign_add(1)
    return state.loss_scale.update(finite)
