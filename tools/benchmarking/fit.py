"""Measures `Model.fit` on stock Keras layers, as a tutorial trains them."""

import time
from collections.abc import Callable
from typing import Any

import keras
from compare_with_fit import STOCK_MODELS

from aelab.config import Config
from benchmarking import arrays, machine

_FEWEST_BATCHES = 20
_EPOCHS = 2  # that should fit into the time, at least


class EpochTimer(keras.callbacks.Callback):
    """Times whole epochs but the first, and ends training when the time is over.

    Attributes:
      times: seconds of each epoch that counts.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Measures for `seconds`, at least one epoch."""
        super().__init__()
        self.times: list[float] = []
        self._seconds, self._clock, self._began = seconds, clock, 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes when an epoch begins."""
        self._began = self._clock()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Notes how long it took; the first one makes data and functions ready."""
        if epoch:
            self.times.append(self._clock() - self._began)
            self.model.stop_training = sum(self.times) >= self._seconds


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times epochs of `Model.fit`, which shuffles arrays that are in memory.

    An epoch has all images, or as many whole batches as half of the time allows, but at
    least 20 where there are as many. The first epoch does not count.

    Args:
      job: `device`, cpu or gpu; `config`, the fields of a `Config`; `images`, a .npy
        file of uint8 [n, H, W, C]; `setting`, steps_per_execution and jit_compile;
        `seconds`.

    Returns:
      `ms`: milliseconds a step, the mean over the epochs; `steps`: how many.
    """
    machine.require(job["device"])
    config, setting = Config(**job["config"]), job["setting"]
    keras.mixed_precision.set_global_policy(config.precision)
    x, y = arrays.load(job["images"], config)
    model = _compiled(config, x.shape[1:], setting)
    step_seconds = _probe(model, x, y, config.batch_size)
    batches = _batches_an_epoch(
        len(x) // config.batch_size, step_seconds, job["seconds"]
    )
    timer = EpochTimer(job["seconds"])
    _fit(model, x, y, config.batch_size, batches, 10**9, timer)
    steps = batches * len(timer.times)
    return {"ms": sum(timer.times) / steps * 1e3, "steps": steps}


def _compiled(config: Config, shape: tuple[int, int, int], setting: Any) -> Any:
    """The stock model, ready for `fit`."""
    model = STOCK_MODELS[config.model](config, shape)
    model.compile(
        optimizer=keras.optimizers.Adadelta(config.learning_rate),
        loss="binary_crossentropy",
        steps_per_execution=setting["steps_per_execution"],
        jit_compile=setting["jit_compile"],
    )
    return model


def _probe(model: Any, x: Any, y: Any, batch_size: int) -> float:
    """Compiles, and returns about how many seconds a step takes."""
    batches = min(_FEWEST_BATCHES, len(x) // batch_size)
    timer = EpochTimer(0)
    _fit(model, x, y, batch_size, batches, 2, timer)
    return timer.times[0] / batches


def _fit(
    model: Any, x: Any, y: Any, batch_size: int, batches: int, epochs: int, timer: Any
) -> None:
    """Trains on the first `batches` batches, all of one size."""
    count = batches * batch_size
    model.fit(
        x[:count],
        y[:count],
        batch_size=batch_size,
        epochs=epochs,
        callbacks=[timer],
        verbose=0,
    )


def _batches_an_epoch(available: int, step_seconds: float, seconds: float) -> int:
    """Whole batches in an epoch, a multiple of 20 where there are as many."""
    fitting = int(seconds / _EPOCHS / step_seconds)
    batches = min(max(fitting, _FEWEST_BATCHES), available)
    # So that calls of several steps are all of one length.
    return batches - batches % _FEWEST_BATCHES if batches > _FEWEST_BATCHES else batches
