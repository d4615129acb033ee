"""Measures `Model.fit` on stock Keras layers, used as in a tutorial."""

import time
from collections.abc import Callable
from typing import Any

import keras
from compare_with_fit import STOCK_MODELS

from aelab.config import Config
from benchmarking.jobs import peers_data
from benchmarking.machine import require_device

_MIN_BATCHES = 20
_EPOCHS = 2  # the minimum that should fit into the time


class EpochTimer(keras.callbacks.Callback):
    """Times every epoch except the first, which prepares everything.

    Ends training after `seconds`, but at least one timed epoch.

    Attributes:
      times: seconds of each timed epoch.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter):
        super().__init__()
        self.times: list[float] = []
        self._seconds, self._clock, self._began = seconds, clock, 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._began = self._clock()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Records the time."""
        if epoch:
            self.times.append(self._clock() - self._began)
            self.model.stop_training = sum(self.times) >= self._seconds


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times epochs of `Model.fit`, which shuffles arrays in memory.

    An epoch has all images, or the whole batches that fit into half of the time, but
    at least 20 batches if there are so many. See `benchmarking.jobs`.
    """
    require_device(job["device"])
    config, options = Config(**job["config"]), dict(job["setting"])
    del options["onednn"]  # a variable of the environment
    keras.mixed_precision.set_global_policy(config.precision)
    x, y = peers_data(job["images"], config)
    model = STOCK_MODELS[config.model](config, x.shape[1:])
    optimizer = keras.optimizers.Adadelta(config.learning_rate)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", **options)

    def fit(batches: int, seconds: float) -> list[float]:
        """Trains on the first `batches`; returns the seconds of each epoch."""
        timer, count = EpochTimer(seconds), batches * config.batch_size
        endless = {"epochs": 10**9, "verbose": 0, "callbacks": [timer]}
        model.fit(x[:count], y[:count], config.batch_size, **endless)
        return timer.times

    available = len(x) // config.batch_size
    batches = min(_MIN_BATCHES, available)
    step_seconds = fit(batches, 0)[0] / batches  # compiles as well
    batches = _batches_per_epoch(available, step_seconds, job["seconds"])
    times = fit(batches, job["seconds"])
    steps = batches * len(times)
    return {"ms": sum(times) / steps * 1e3, "steps": steps}


def _batches_per_epoch(available: int, step_seconds: float, seconds: float) -> int:
    """Number of whole batches in an epoch, a multiple of 20 if there are so many."""
    fitting = int(seconds / _EPOCHS / step_seconds)
    batches = min(max(fitting, _MIN_BATCHES), available)
    # A multiple gives every call with several steps the same length.
    return batches // _MIN_BATCHES * _MIN_BATCHES or batches
