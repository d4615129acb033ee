"""The state of a run, one training step, and the compiled loops around it.

The inner loop knows nothing but batches: no summaries, no intervals, no Python side
effects. What happens between its calls is the outer loop's business (`aelab.trainer`).
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.metrics import EVAL_METRICS, LOSSES, TRAIN_METRICS

Values = dict[str, tf.Tensor]


@dataclasses.dataclass
class Progress:
    """What the outer loop has to remember; part of every checkpoint.

    Attributes:
      logged_step: step of the last training line.
      evaluated_step: step of the last evaluation.
      best_loss: lowest evaluation loss so far, that of the best checkpoint.
      best_step: its step.
      reference_loss: the loss that early stopping waits to see beaten by `min_delta`.
      reference_step: its step.
    """

    logged_step: int = 0
    evaluated_step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    reference_loss: float = math.inf
    reference_step: int = 0

    def record(self, step: int, loss: float, min_delta: float) -> bool:
        """Takes note of an evaluation; returns whether it is the best so far."""
        self.evaluated_step = step
        if loss < self.reference_loss - min_delta:
            self.reference_loss, self.reference_step = loss, step
        if loss >= self.best_loss:
            return False
        self.best_loss, self.best_step = loss, step
        return True


class TrainState:
    """All that a run needs to go on, and nothing else.

    Attributes:
      step: int64 variable, how many training steps were taken.
      model: the Keras model.
      optimizer: the Keras optimizer, built.
      totals: float32 [2] variables, sum and count of each training metric since the
        last training line.
      progress: what the outer loop remembers.
    """

    def __init__(self, model: Any, optimizer: Any):
        optimizer.build(model.trainable_variables)
        self.step = tf.Variable(0, dtype=tf.int64, name="step")
        self.model = model
        self.optimizer = optimizer
        names = ("loss", *TRAIN_METRICS, "gradient_norm")
        self.totals = {n: tf.Variable(tf.zeros([2]), name=n) for n in names}
        self.progress = Progress()

    def _variables(self) -> dict[str, Any]:
        named = {"step": self.step}
        named |= {f"model/{v.path}": v for v in self.model.variables}
        # By position, as some of Keras' optimizers give several variables one path, or
        # a path that counts what the process has built before.
        slots = enumerate(self.optimizer.variables)
        named |= {f"optimizer/{number:03}": v for number, v in slots}
        return named | {f"totals/{name}": v for name, v in self.totals.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole state as named arrays."""
        values = {name: np.asarray(v) for name, v in self._variables().items()}
        progress = dataclasses.asdict(self.progress)
        return values | {f"progress/{n}": np.asarray(v) for n, v in progress.items()}

    def assign(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes on the state that `arrays()` returned.

        Raises:
          ValueError: an array is missing, superfluous, or of another shape or type.
        """
        mine = self.arrays()
        if odd := sorted(set(mine) ^ set(arrays)):
            raise ValueError(f"arrays that only one side has: {', '.join(odd)}")
        for name, array in mine.items():
            if (array.shape, array.dtype) != (arrays[name].shape, arrays[name].dtype):
                raise ValueError(f"{name} has another shape or type")
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        fields = dataclasses.asdict(self.progress)
        self.progress = Progress(**{n: arrays[f"progress/{n}"].item() for n in fields})


def autoencode(model: Any, images: tf.Tensor, training: bool) -> tuple[Any, Any]:
    """Output and code of `images`, float32 [n, H, W, C] in [0, 1]."""
    code = model.encoder(images, training=training)
    return model.decoder(code, training=training), code


def example_losses(
    config: Config, clean: tf.Tensor, output: tf.Tensor, code: tf.Tensor
) -> tf.Tensor:
    """What training minimises: reconstruction loss + `l1_activity` * sum |code|.

    The penalty is that of Keras' `ActivityRegularizer`, which divides the sum over a
    batch by the batch size, computed here for each example, so that it is the same on
    any number of devices.

    Returns:
      float32 [n].
    """
    losses = LOSSES[config.loss](clean, output)
    if config.l1_activity == 0:
        return losses
    code = tf.cast(tf.reshape(code, [tf.shape(code)[0], -1]), tf.float32)
    return losses + config.l1_activity * tf.reduce_sum(tf.abs(code), axis=1)


def train_step(state: TrainState, config: Config, batch: tuple[Any, Any]) -> Values:
    """One update of the weights.

    Args:
      state: changed in place; `step` is left to the loop.
      config: loss and global batch size, by which the sum of losses is divided.
      batch: (corrupted, clean), float32 [n, H, W, C] each.

    Returns:
      For each training metric float32 [2]: the sum over examples and their count; for
      the gradient's norm, a property of the step, the norm and 1.
    """
    corrupted, clean = batch
    with tf.GradientTape() as tape:
        output, code = autoencode(state.model, corrupted, training=True)
        losses = example_losses(config, clean, output, code)
        loss = tf.reduce_sum(losses) / config.batch_size
    variables = state.model.trainable_variables
    gradients = tape.gradient(loss, variables)
    state.optimizer.apply(gradients, variables)
    values = {"loss": losses} | {
        name: metric(clean, output) for name, metric in TRAIN_METRICS.items()
    }
    totals = {name: _total(v, tf.ones_like(v)) for name, v in values.items()}
    return totals | {"gradient_norm": tf.stack([tf.linalg.global_norm(gradients), 1.0])}


def _total(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Weighted sum of `values` (float32 [n]), and the sum of the weights: [2]."""
    # A value of weight 0 is left out even if it is not finite.
    kept = tf.where(weights > 0, values * weights, 0.0)
    return tf.stack([tf.reduce_sum(kept), tf.reduce_sum(weights)])


TrainLoop = Callable[[Iterator[Any], tf.Tensor], tf.Tensor]


def build_train_loop(state: TrainState, config: Config) -> TrainLoop:
    """Compiles the inner loop.

    Returns:
      `train_loop(iterator, num_steps)`: takes `num_steps` (int64 scalar, a tensor, as
      Python numbers would compile anew) training steps and adds to `state.totals`. It
      stops after a step whose loss or gradient is not finite, and returns whether all
      were finite (bool scalar).
    """

    def train_loop(iterator: Iterator[Any], num_steps: tf.Tensor) -> tf.Tensor:
        last = state.step + num_steps

        def is_going_on(finite: tf.Tensor) -> tf.Tensor:
            return finite & (state.step < last)

        def take_step(finite: tf.Tensor) -> tf.Tensor:
            step_totals = train_step(state, config, next(iterator))
            for name, total in step_totals.items():
                state.totals[name].assign_add(total)
            state.step.assign_add(1)
            sums = tf.stack([step_totals["loss"][0], step_totals["gradient_norm"][0]])
            return tf.reduce_all(tf.math.is_finite(sums))

        (finite,) = tf.while_loop(is_going_on, take_step, [tf.constant(True)])
        return finite

    # AutoGraph, which reads source code, does not work with Python 3.13.
    compiled: TrainLoop = tf.function(train_loop, autograph=False)
    return compiled


def means(totals: Values) -> dict[str, float]:
    """Sum over count, by name."""
    return {name: float(total[0] / total[1]) for name, total in totals.items()}


ExampleMetrics = Callable[[tf.Tensor, tf.Tensor], Values]


def model_metrics(model: Any, config: Config) -> ExampleMetrics:
    """The evaluation figures of a model's output, one value an example."""

    def example_metrics(corrupted: tf.Tensor, clean: tf.Tensor) -> Values:
        output, code = autoencode(model, corrupted, training=False)
        losses = example_losses(config, clean, output, code)
        return {"loss": losses} | image_metrics(clean, output)

    return example_metrics


def image_metrics(clean: tf.Tensor, output: tf.Tensor) -> Values:
    """The evaluation figures of any output beside the clean image: float32 [n] each."""
    return {name: metric(clean, output) for name, metric in EVAL_METRICS.items()}


def build_evaluate(
    example_metrics: ExampleMetrics,
) -> Callable[[tf.data.Dataset], dict[str, float]]:
    """Compiles an evaluation.

    Args:
      example_metrics: `(corrupted, clean) -> {name: float32 [n]}`.

    Returns:
      `evaluate(dataset)`: the means over all examples of a dataset, of known length,
      of `(corrupted, clean, weights)`.
    """

    def eval_step(corrupted: Any, clean: Any, weights: Any) -> Values:
        values = example_metrics(corrupted, clean)
        return {name: _total(v, weights) for name, v in values.items()}

    compiled_step = tf.function(eval_step, autograph=False)

    def evaluate(dataset: tf.data.Dataset) -> dict[str, float]:
        # Stopping before the end keeps TensorFlow from logging that it was reached.
        batches = itertools.islice(dataset, int(dataset.cardinality()))
        totals: Values = {}
        for batch in batches:
            batch_totals = compiled_step(*batch)
            totals = {n: totals.get(n, 0.0) + t for n, t in batch_totals.items()}
        return means(totals)

    return evaluate
