"""The state of a run: what a checkpoint holds, and what tests compare."""

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.metrics import TRAIN_METRICS
from aelab.models import build_model
from aelab.training.optimizers import LossScale, build_optimizer


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
      step: int64 variable, how many training steps were taken, skipped ones included.
      model: the Keras model.
      optimizer: the Keras optimizer, built.
      loss_scale: for float16.
      totals: float32 [2] variables, sum and count of each training metric since the
        last training line.
      progress: what the outer loop remembers.
      seconds_waited: float64 scalar variable, for how long the loop has waited for
        batches; not part of the arrays.
      strategy: whose replicas hold the model and the optimizer; not part of the arrays.
    """

    def __init__(
        self,
        config: Config,
        image_shape: tuple[int, int, int],
        total_steps: int,
        strategy: tf.distribute.Strategy | None = None,
    ):
        """Builds what `config` names, at its first step, on one device by default."""
        self.strategy = strategy or tf.distribute.get_strategy()
        self.step = tf.Variable(0, dtype=tf.int64, name="step")
        with self.strategy.scope():
            self.model = build_model(config, image_shape)
            self.optimizer = build_optimizer(config, total_steps, self.step)
            self.optimizer.build(self.model.trainable_variables)
            self.loss_scale = LossScale(config)
        rate = ("code_bytes",) if config.sends_integers() else ()
        names = ("loss", *TRAIN_METRICS, *rate, "gradient_norm")
        self.totals = {n: tf.Variable(tf.zeros([2]), name=n) for n in names}
        with tf.device("CPU:0"):  # where the clock is
            self.seconds_waited = tf.Variable(0.0, dtype=tf.float64)
        self.progress = Progress()

    def _variables(self) -> dict[str, Any]:
        named = {"step": self.step}
        named |= {f"model/{v.path}": v for v in self.model.variables}
        # By position, as some of Keras' optimizers give several variables one path, or
        # a path that counts what the process has built before.
        slots = enumerate(self.optimizer.variables)
        named |= {f"optimizer/{number:03}": v for number, v in slots}
        scale = self.loss_scale.variables()
        named |= {f"loss_scale/{name}": v for name, v in scale.items()}
        return named | {f"totals/{name}": v for name, v in self.totals.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole state as named arrays."""
        values = {name: np.asarray(v.numpy()) for name, v in self._variables().items()}
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
