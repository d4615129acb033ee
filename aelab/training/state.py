"""A run, and its state as saved in checkpoints."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.data.sources import Splits
from aelab.distributed.devices import Distribution
from aelab.errors import UsageError
from aelab.metric_info import METRICS
from aelab.models import ImageShape, build_model, unique_names
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import AVERAGES
from aelab.training.loss_scale import LossScale
from aelab.training.optimizers import build_optimizer
from aelab.training.plan import Plan, Progress


class TrainState:
    """The state of a run, on its devices; a checkpoint holds `arrays()`.

    Attributes:
      step: int64 variable, the number of training steps taken, skipped ones included.
      autoencoder: the model and its parts, with the weights that are trained.
      evaluated: the model that is evaluated: with averaged weights, of its own, if
        `weight_average` is on, and else `autoencoder`.
      optimizer: the Keras optimizer, built; its learning rate follows `step`.
      loss_scale: the factor on the loss, 1 except with float16.
      totals: float32 [2] variables, sum and count of each training metric over the
        finite steps since the last log entry.
      progress: the memory of the outer loop.
      seconds_waited: float64 scalar variable, how long the loop has waited for batches;
        not saved in checkpoints.
      strategy: its replicas hold the model and the optimizer.
    """

    def __init__(
        self,
        config: Config,
        image_shape: tuple[int, int, int],
        total_steps: int,
        strategy: tf.distribute.Strategy | None = None,
    ):
        """Builds the state of step 0, on one device by default."""
        self.strategy = strategy or tf.distribute.get_strategy()
        self.step = tf.Variable(0, dtype=tf.int64, name="step")
        with self.strategy.scope():
            shape: ImageShape = image_shape
            if config.whole_pictures:
                # Raises for sizes that do not fit.
                if not build_model(config, image_shape).size_multiple:
                    raise UsageError(
                        f"--whole_pictures contradicts --model={config.model}: it "
                        "takes images of one size only"
                    )
                shape = (None, None, image_shape[2])
            self.autoencoder = self.evaluated = build_model(config, shape)
            if config.loss == "bce" and not self.autoencoder.is_bounded:
                raise UsageError(
                    f"--loss=bce contradicts --model={config.model}: its output may be "
                    "outside [0, 1], where there is no cross-entropy; use --loss=mse"
                )
            if config.supervision == "noise2void" and self.autoencoder.dither_size:
                raise UsageError(
                    f"--supervision=noise2void contradicts --model={config.model}, "
                    "whose code is dithered"
                )
            if config.weight_average:
                self.evaluated = build_model(config, shape)
            self.optimizer = build_optimizer(config, total_steps, self.step)
            self.optimizer.build(self.autoencoder.trainable_variables)
            self.loss_scale = LossScale(config)
        names = ["loss"]
        if config.supervision == "clean":
            names += [name for name, row in METRICS.items() if row.in_training]
        names += ["code_bytes"] if self.autoencoder.prior else []
        self.totals = {
            name: tf.Variable(tf.zeros([2]), name=name)
            for name in (*names, "gradient_norm")
        }
        with tf.device("CPU:0"):  # the clock is on the CPU
            self.seconds_waited = tf.Variable(0.0, dtype=tf.float64)
        self.progress = Progress()

    def reset_totals(self) -> None:
        """Begins new sums after a log entry."""
        for total in self.totals.values():
            total.assign([0.0, 0.0])
        self.seconds_waited.assign(0.0)

    def averages(self) -> dict[str, Any]:
        """The averaged weights by name; empty if `weight_average` is off."""
        if self.evaluated is self.autoencoder:
            return {}
        return self.evaluated.named_variables()

    def _slots(self) -> dict[str, Any]:
        """The optimizer's variables by names that are the same in every process."""
        variables = self.optimizer.variables
        names = unique_names([variable.name for variable in variables])
        return dict(zip(names, variables, strict=True))

    def _variables(self) -> dict[str, Any]:
        groups = {
            "model": self.autoencoder.named_variables(),
            AVERAGES: self.averages(),
            "optimizer": self._slots(),
            "loss_scale": self.loss_scale.variables(),
            "totals": self.totals,
        }
        named = {f"{g}/{n}": v for g, group in groups.items() for n, v in group.items()}
        return {"step": self.step, **named}

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole state as named arrays."""
        values = {name: np.asarray(v.numpy()) for name, v in self._variables().items()}
        progress = dataclasses.asdict(self.progress)
        return values | {f"progress/{n}": np.asarray(v) for n, v in progress.items()}

    def assign(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restores the state that `arrays()` returned, in this or an earlier release.

        A total that is missing starts at 0, and one that is not known is ignored.

        Raises:
          ValueError: another array is missing, unexpected, or of another shape or type.
        """
        own = self.arrays()
        arrays = _without_other_totals(own, self._with_slot_names(arrays))
        if different := sorted(set(own) ^ set(arrays)):
            raise ValueError(f"missing or unexpected arrays: {', '.join(different)}")
        for name, array in own.items():
            if (array.shape, array.dtype) != (arrays[name].shape, arrays[name].dtype):
                raise ValueError(f"{name} has another shape or type")
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        fields = dataclasses.asdict(self.progress)
        self.progress = Progress(**{n: arrays[f"progress/{n}"].item() for n in fields})

    def _with_slot_names(
        self, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Names the optimizer's arrays, which format 1 saved by position."""
        names = {f"optimizer/{n:03}": name for n, name in enumerate(self._slots())}
        return {
            f"optimizer/{names[name]}" if name in names else name: array
            for name, array in arrays.items()
        }


def _without_other_totals(
    own: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """`arrays` with the totals of `own`: missing ones are 0, unknown ones dropped."""
    zeros = {n: np.zeros_like(a) for n, a in own.items() if n.startswith("totals/")}
    known = {n: a for n, a in arrays.items() if n in own or n[:7] != "totals/"}
    return zeros | known


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that a run consists of; training changes only `state`."""

    config: Config
    directory: RunDirectory
    distribution: Distribution
    splits: Splits
    plan: Plan
    state: TrainState
