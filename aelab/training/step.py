"""One training step, one evaluation step, and the compiled loops around them.

The inner loop knows nothing but batches: no summaries, no intervals, no Python side
effects. What happens between its calls is the outer loop's business (`Trainer`).
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.metrics import EVAL_METRICS, LOSSES, TRAIN_METRICS
from aelab.training.state import TrainState

Values = dict[str, tf.Tensor]


def autoencode(
    model: Any, images: tf.Tensor, training: bool, dither: tf.Tensor | None = None
) -> tuple[Any, Any]:
    """Output and code of `images`, float32 [n, H, W, C] in [0, 1].

    The code is what the encoder gives: a tensor [n, ...] or a list of such. That of a
    model with a prior is rounded, or `dither` is added to it, which stands for the
    error of rounding and has a gradient (Balle et al. 2018).
    """
    code = model.encoder(images, training=training)
    if hasattr(model, "prior"):
        code = tf.cast(code, tf.float32)
        code = tf.round(code) if dither is None else code + dither
    return model.decoder(code, training=training), code


def code_bytes(model: Any, code: tf.Tensor) -> Values:
    """`code_bytes`: those of an image's code, float32 [n], if there is a prior."""
    return {"code_bytes": model.prior(code)} if hasattr(model, "prior") else {}


def code_rows(code: Any) -> tf.Tensor:
    """All numbers of an image's code in a row: float32 [n, numbers]."""
    parts = [tf.cast(part, tf.float32) for part in tf.nest.flatten(code)]
    rows = [tf.reshape(part, [tf.shape(part)[0], -1]) for part in parts]
    return rows[0] if len(rows) == 1 else tf.concat(rows, axis=1)


def example_losses(
    config: Config, clean: tf.Tensor, output: tf.Tensor, code: Any, rate: Values
) -> tf.Tensor:
    """What training minimises: reconstruction loss + penalties on the code.

    They are `l1_activity` * sum |code|, and `rate_weight` * bytes where `rate` has
    them, see `code_bytes`. The former is that of Keras' `ActivityRegularizer`, which
    divides the sum over a batch by the batch size, computed here for each example, so
    that it is the same on any number of devices.

    Returns:
      float32 [n].
    """
    losses = LOSSES[config.loss](clean, output)
    if config.l1_activity:
        losses += config.l1_activity * tf.reduce_sum(tf.abs(code_rows(code)), axis=1)
    if rate:  # at a weight of 0, too, so that the prior has a gradient
        losses += config.rate_weight * rate["code_bytes"]
    return losses


def replica_gradients(
    state: TrainState,
    config: Config,
    corrupted: tf.Tensor,
    clean: tf.Tensor,
    dither: tf.Tensor | None = None,
) -> tuple[list[tf.Tensor], Values]:
    """Forward and backward pass over the rows of one replica.

    Args:
      state: only read.
      config: loss and global batch size, by which the sum of losses is divided.
      corrupted: float32 [rows, H, W, C], the model's input.
      clean: the same, what it should give.
      dither: float32 [rows, encoding_dim], for a model with a prior.

    Returns:
      This replica's share of the scaled loss' gradient, and of each training metric
      float32 [2]: the sum over examples and their count.
    """
    with tf.GradientTape() as tape:
        output, code = autoencode(state.model, corrupted, True, dither)
        rate = code_bytes(state.model, code)
        losses = example_losses(config, clean, output, code, rate)
        loss = state.loss_scale.scaled(tf.reduce_sum(losses) / config.batch_size)
    gradients = tape.gradient(loss, state.model.trainable_variables)
    values = {n: metric(clean, output) for n, metric in TRAIN_METRICS.items()}
    values |= {"loss": losses} | rate
    return gradients, {n: _total(v, tf.ones_like(v)) for n, v in values.items()}


def sum_over_replicas(tensors: Any) -> Any:
    """The sums over all replicas of float32 tensors in any nest, in one all-reduce."""
    replicas = tf.distribute.get_replica_context()
    if replicas.num_replicas_in_sync == 1:
        return tensors
    flat = tf.nest.flatten(tensors)
    whole = tf.concat([tf.reshape(tensor, [-1]) for tensor in flat], axis=0)
    whole = replicas.all_reduce(tf.distribute.ReduceOp.SUM, whole)
    pieces = tf.split(whole, [tensor.shape.num_elements() for tensor in flat])
    pieces = [tf.reshape(p, t.shape) for p, t in zip(pieces, flat, strict=True)]
    return tf.nest.pack_sequence_as(tensors, pieces)


def sum_over_blocks(function: Callable[..., Any], blocks: int, *tensors: Any) -> Any:
    """`function` of each of several blocks of rows, and the sums of its results.

    The blocks depend on each other in nothing, so TensorFlow computes as many of them
    at a time as there are cores.

    Args:
      function: takes some rows of each of `tensors`; gives a nest of sums over rows.
      blocks: how many; must divide the number of rows.
      *tensors: [rows, ...] each.
    """
    if blocks == 1:
        return function(*tensors)
    cut = [tf.split(tensor, blocks) for tensor in tensors]
    parts = [function(*block) for block in zip(*cut, strict=True)]
    return tf.nest.map_structure(lambda *each: tf.add_n(each), *parts)


Gradients = Callable[..., tuple[list[tf.Tensor], Values]]


def build_gradients(
    state: TrainState, config: Config, use_xla: bool, blocks: int = 1
) -> Gradients:
    """`replica_gradients` as a function of a batch's parts, compiled or not."""

    def of_block(*batch: Any) -> tuple[list[tf.Tensor], Values]:
        return replica_gradients(state, config, *batch)

    if use_xla:
        of_block = tf.function(of_block, jit_compile=True, autograph=False)

    def gradients(*batch: Any) -> tuple[list[tf.Tensor], Values]:
        summed: tuple[list[tf.Tensor], Values] = sum_over_blocks(
            of_block, blocks, *batch
        )
        return summed

    return gradients


def train_step(
    state: TrainState, config: Config, gradients: Gradients, batch: Any
) -> tuple[Values, tf.Tensor]:
    """One update of the weights, unless loss or gradient are not finite on any replica.

    Args:
      state: changed in place; `step`, `totals` and `loss_scale` are left to the loop.
      config: what the gradient is clipped to.
      gradients: see `build_gradients`.
      batch: of each replica, see `make_train_dataset`.

    Returns:
      For each training metric float32 [2], over all replicas: the sum over examples and
      their count; for the gradient's norm, a property of the step, the norm and 1. And
      whether the weights were changed, a bool scalar.
    """

    def sum_gradients(*parts: Any) -> tuple[list[tf.Tensor], Values]:
        summed, totals = sum_over_replicas(gradients(*parts))
        summed = state.loss_scale.unscaled(summed)
        norm = tf.linalg.global_norm(summed)
        if config.gradient_clip_norm:
            limit = config.gradient_clip_norm
            summed, _ = tf.clip_by_global_norm(summed, limit, use_norm=norm)
        return summed, totals | {"gradient_norm": tf.stack([norm, 1.0])}

    def update(summed: list[tf.Tensor]) -> None:
        state.optimizer.apply(summed, state.model.trainable_variables)

    summed, totals = state.strategy.run(sum_gradients, args=batch)
    totals = _first(state.strategy, totals)
    sums = tf.stack([totals["loss"][0], totals["gradient_norm"][0]])
    finite = tf.reduce_all(tf.math.is_finite(sums))
    tf.cond(finite, lambda: state.strategy.run(update, args=(summed,)), lambda: None)
    return totals, finite


def _tensors(strategy: tf.distribute.Strategy, batch: Any) -> list[tf.Tensor]:
    """The tensors of all of this worker's replicas."""
    tensors = [strategy.experimental_local_results(part) for part in batch]
    flat: list[tf.Tensor] = tf.nest.flatten(tensors)
    return flat


def _first(strategy: tf.distribute.Strategy, values: Values) -> Values:
    """The first replica's values, where all have the same."""
    of_replicas = strategy.experimental_local_results
    return {name: of_replicas(value)[0] for name, value in values.items()}


def _total(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Weighted sum of `values` (float32 [n]), and the sum of the weights: [2]."""
    # A value of weight 0 is left out even if it is not finite.
    kept = tf.where(weights > 0, values * weights, 0.0)
    return tf.stack([tf.reduce_sum(kept), tf.reduce_sum(weights)])


def _build_advance(
    state: TrainState, config: Config, use_xla: bool, blocks: int
) -> Callable[..., tf.Tensor]:
    """A training step with what is counted of it, a function of a batch's parts.

    With XLA, `--strategy=single` and one block, all of it is one XLA program: on a GPU
    its launches would take most of the time else. The function returns whether training
    may go on.
    """
    is_single = state.strategy is tf.distribute.get_strategy()
    in_one = use_xla and is_single and blocks == 1
    gradients = build_gradients(state, config, use_xla and not in_one, blocks)

    def advance(*batch: Any) -> tf.Tensor:
        totals, finite = train_step(state, config, gradients, batch)
        for name, total in totals.items():
            state.totals[name].assign_add(tf.where(finite, total, 0.0))
        state.step.assign_add(1)
        return state.loss_scale.update(finite)

    if in_one:
        advance = tf.function(advance, jit_compile=True, autograph=False)
    return advance


TrainLoop = Callable[[Iterator[Any], tf.Tensor], tf.Tensor]


def build_train_loop(
    state: TrainState, config: Config, use_xla: bool = False, blocks: int = 1
) -> TrainLoop:
    """Compiles the inner loop; see `sum_over_blocks` for `blocks`.

    Returns:
      `train_loop(batches, num_steps)`: takes `num_steps` (int64 scalar, a tensor, as
      Python numbers would compile anew) training steps and adds to `state.totals`.
      A step whose loss or gradient is not finite changes neither weights nor totals.
      With float16 it is skipped and lowers the loss scale; otherwise, and at the
      smallest scale, the loop stops after it. Returns whether it did not (bool scalar).
    """
    advance = _build_advance(state, config, use_xla, blocks)

    def train_loop(batches: Iterator[Any], num_steps: tf.Tensor) -> tf.Tensor:
        # int32, which TensorFlow counts on the host, also where the rest is on a GPU.
        steps = tf.cast(num_steps, tf.int32)

        def is_going_on(taken: tf.Tensor, going_on: tf.Tensor) -> tf.Tensor:
            return going_on & (taken < steps)

        def take_step(taken: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            asked = tf.timestamp()
            with tf.control_dependencies([asked]):
                batch = next(batches)
            with tf.control_dependencies(_tensors(state.strategy, batch)):
                state.seconds_waited.assign_add(tf.timestamp() - asked)
            return taken + 1, advance(*batch)

        _, going_on = tf.while_loop(
            is_going_on, take_step, (tf.constant(0), tf.constant(True))
        )
        return going_on

    # AutoGraph, which reads source code, does not work with Python 3.13.
    compiled: TrainLoop = tf.function(train_loop, autograph=False)
    return compiled


def means(totals: Values) -> dict[str, float]:
    """Sum over count, by name; NaN of what was never counted."""
    pairs = {name: np.asarray(total) for name, total in totals.items()}
    return {n: float(p[0] / p[1]) if p[1] else math.nan for n, p in pairs.items()}


ExampleMetrics = Callable[[tf.Tensor, tf.Tensor], Values]


def model_metrics(model: Any, config: Config) -> ExampleMetrics:
    """The evaluation figures of a model's output, one value an example."""

    def example_metrics(corrupted: tf.Tensor, clean: tf.Tensor) -> Values:
        return evaluate_output(model, config, corrupted, clean)[1]

    return example_metrics


def evaluate_output(
    model: Any, config: Config, corrupted: tf.Tensor, clean: tf.Tensor
) -> tuple[tf.Tensor, Values]:
    """A model's output, and its evaluation figures, one value an example."""
    output, code = autoencode(model, corrupted, training=False)
    rate = code_bytes(model, code)
    losses = example_losses(config, clean, output, code, rate)
    return output, {"loss": losses} | image_metrics(clean, output) | rate


def image_metrics(clean: tf.Tensor, output: tf.Tensor) -> Values:
    """The evaluation figures of any output beside the clean image: float32 [n] each."""
    return {name: metric(clean, output) for name, metric in EVAL_METRICS.items()}


Evaluate = Callable[..., dict[str, float]]


def build_evaluate(
    example_metrics: ExampleMetrics,
    strategy: tf.distribute.Strategy | None = None,
    blocks: int = 1,
) -> Evaluate:
    """Compiles an evaluation.

    Args:
      example_metrics: `(corrupted, clean) -> {name: float32 [n]}`.
      strategy: over whose replicas the batches are spread, one device by default.
      blocks: see `sum_over_blocks`.

    Returns:
      `evaluate(dataset, num_batches, after_batch)`: the means over all examples of a
      dataset of `(corrupted, clean, weights)`. After each batch `after_batch(number,
      totals)` is called, which may raise.
    """
    where = strategy or tf.distribute.get_strategy()

    def block_totals(corrupted: Any, clean: Any, weights: Any) -> Values:
        values = example_metrics(corrupted, clean)
        return {n: _total(v, weights) for n, v in values.items()}

    def replica_totals(*batch: Any) -> Values:
        totals = sum_over_blocks(block_totals, blocks, *batch)
        summed: Values = sum_over_replicas(totals)
        return summed

    def eval_step(batch: Any) -> Values:
        return _first(where, where.run(replica_totals, args=batch))

    compiled_step = tf.function(eval_step, autograph=False)

    def evaluate(
        dataset: Any,
        num_batches: int,
        after_batch: Callable[[int, Values], None] = lambda number, totals: None,
    ) -> dict[str, float]:
        # Stopping before the end keeps TensorFlow from logging that it was reached.
        totals: Values = {}
        for number, batch in enumerate(itertools.islice(dataset, num_batches)):
            batch_totals = compiled_step(batch)
            after_batch(number, batch_totals)
            totals = {n: totals.get(n, 0.0) + t for n, t in batch_totals.items()}
        return means(totals)

    return evaluate
