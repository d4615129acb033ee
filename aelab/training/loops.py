"""The compiled loops over training steps and evaluation batches."""

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from aelab.config import Config
from aelab.data.batch import Batch, EvalBatch
from aelab.data.pipeline import distribute, make_eval_dataset, make_train_dataset
from aelab.data.sources import Source
from aelab.distributed.reduce import (
    first_replica,
    sum_over_blocks,
    sum_over_replicas,
)
from aelab.metrics import Sum, Values, means, sum_over_images
from aelab.models import Autoencoder
from aelab.training.objective import evaluate_batch
from aelab.training.state import TrainState
from aelab.training.step import train_step

TrainLoop = Callable[[Iterator[Batch], tf.Tensor], tf.Tensor]
MetricsOf = Callable[[EvalBatch], Values]
Evaluate = Callable[..., dict[str, float]]


def training_batches(
    state: TrainState, config: Config, source: Source
) -> Iterator[Batch]:
    """The batches of a run from the step of `state` on, for its replicas."""
    step, size = int(state.step), state.autoencoder.dither_size
    batches: Iterator[Batch] = iter(
        distribute(
            state.strategy,
            lambda share: make_train_dataset(source, config, step, share, size),
        )
    )
    return batches


def eval_batches(state: TrainState, config: Config, source: Source) -> Any:
    """A dataset of `EvalBatch` with all images of `source`, for the same replicas."""
    return distribute(
        state.strategy, lambda share: make_eval_dataset(source, config, share)
    )


def build_train_loop(
    state: TrainState, config: Config, use_xla: bool = False, blocks: int = 1
) -> TrainLoop:
    """Compiles the training loop; see `sum_over_blocks` for `blocks`.

    Returns:
      `train_loop(batches, num_steps)`: takes `num_steps` training steps and adds to
      `state.totals`. `num_steps` is an int64 scalar tensor, because every Python number
      would be compiled separately. With float16 a step that is not finite is skipped
      and lowers the loss scale. With another precision, or if the scale was 1 already,
      the loop stops after it. Returns True if training may continue (bool scalar).
    """
    # With XLA, one device and one block, the whole step is one XLA program: otherwise
    # kernel launches would dominate on a GPU.
    is_single = state.strategy is tf.distribute.get_strategy()
    is_one_program = use_xla and is_single and blocks == 1

    def step(*batch: tf.Tensor) -> tf.Tensor:
        """One update."""
        xla_per_block = use_xla and not is_one_program
        return train_step(state, config, Batch(*batch), blocks, xla_per_block)

    if is_one_program:
        step = tf.function(step, jit_compile=True, autograph=False)

    def train_loop(batches: Iterator[Batch], num_steps: tf.Tensor) -> tf.Tensor:
        """The compiled loop."""
        # TensorFlow keeps int32 on the host even if everything else is on a GPU.
        steps = tf.cast(num_steps, tf.int32)

        def may_continue(taken: tf.Tensor, is_good: tf.Tensor) -> tf.Tensor:
            """True unless all steps are taken or the last one was not finite."""
            return is_good & (taken < steps)

        def take_step(taken: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """One step, and how many are taken then."""
            batch, measured = _next_batch(batches, state)
            # Otherwise the only thread of a pool may take the step before it reads
            # the clock.
            with tf.control_dependencies([measured]):
                return taken + 1, step(*batch)

        _, is_good = tf.while_loop(
            may_continue, take_step, (tf.constant(0), tf.constant(True))
        )
        return is_good

    # AutoGraph, which reads source code, fails with Python 3.13.
    compiled: TrainLoop = tf.function(train_loop, autograph=False)
    return compiled


def _next_batch(batches: Iterator[Batch], state: TrainState) -> tuple[Batch, tf.Tensor]:
    """The next batch, and `state.seconds_waited` with the time spent waiting added."""
    started = tf.timestamp()
    with tf.control_dependencies([started]):
        batch = next(batches)
    local = tf.nest.flatten(
        [state.strategy.experimental_local_results(part) for part in batch]
    )
    with tf.control_dependencies(local):
        waited = tf.timestamp() - started
    return batch, state.seconds_waited.assign_add(waited, read_value=True)


def model_metrics(autoencoder: Autoencoder, config: Config) -> MetricsOf:
    """The loss and the metrics of a model, as a function of an `EvalBatch`."""

    def metrics_of(batch: EvalBatch) -> Values:
        """The values of each image."""
        return evaluate_batch(autoencoder, config, batch)[1]

    return metrics_of


def build_evaluate(
    metrics_of: MetricsOf,
    strategy: tf.distribute.Strategy | None = None,
    blocks: int = 1,
) -> Evaluate:
    """Compiles an evaluation.

    Args:
      metrics_of: `(batch) -> {name: float32 [n]}`.
      strategy: the batches are spread over its replicas; one device by default.
      blocks: see `sum_over_blocks`.

    Returns:
      `evaluate(dataset, num_batches, after_batch)`: the means over all images of a
      dataset of `EvalBatch`. After each batch it calls `after_batch(number, sums)`,
      which may raise.
    """
    devices = strategy or tf.distribute.get_strategy()

    def block_sums(batch: EvalBatch) -> dict[str, Sum]:
        """The sums over a block of rows."""
        return sum_over_images(metrics_of(batch), batch.weights)

    def replica_sums(*batch: tf.Tensor) -> Any:
        """The sums over all replicas."""
        return sum_over_replicas(sum_over_blocks(block_sums, blocks, EvalBatch(*batch)))

    @tf.function(autograph=False, reduce_retracing=True)  # pictures differ in size
    def eval_step(batch: EvalBatch) -> Any:
        """The sums over one batch."""
        return first_replica(devices, devices.run(replica_sums, args=batch))

    def evaluate(
        dataset: Any,
        num_batches: int,
        after_batch: Callable[[int, Mapping[str, Sum]], None] = lambda *_: None,
    ) -> dict[str, float]:
        """The means over all images, see `build_evaluate`."""
        # Stops before the end, so that TensorFlow does not log an end of sequence.
        totals: dict[str, Sum] = {}
        for number, batch in enumerate(itertools.islice(dataset, num_batches)):
            sums = eval_step(batch)
            after_batch(number, sums)
            if number:
                sums = tf.nest.map_structure(operator.add, totals, sums)
            totals = sums
        return means(totals)

    return evaluate
