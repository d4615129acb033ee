"""Measures our training loop, including its input."""

import time
from typing import Any

import numpy as np

from aelab.config import Config
from aelab.data.sources import ArraySource, Source
from aelab.errors import TrainingError
from benchmarking.machine import require_device

_STEPS_PER_CALL = 20
_PROBE_STEPS = 2
_MIN_CALLS = 3  # of a measurement


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times the whole loop on the images of a file; see `benchmarking.jobs`."""
    source = ArraySource(np.load(job["images"]))
    config = Config(**job["config"] | job["setting"])
    return time_loop(config, source, job["seconds"], job["device"])


def time_loop(
    config: Config, source: Source, seconds: float, device: str = "cpu"
) -> dict[str, Any]:
    """Builds the loop as a run does, and times calls of up to 20 steps.

    See `benchmarking.jobs` for the result; the time includes waiting for input.
    """
    from aelab.distributed.blocks import threads_per_op
    from aelab.system.startup import start_tensorflow

    start_tensorflow(threads_per_op=threads_per_op(config))
    require_device(device)

    import tensorflow as tf

    from aelab.distributed.devices import Distribution
    from aelab.training.loops import build_train_loop, training_batches
    from aelab.training.state import TrainState

    distribution = Distribution(config)
    use_xla, blocks = distribution.use_xla, distribution.blocks
    state = TrainState(config, source.image_shape, 1000, distribution.strategy)
    batches = training_batches(state, config, source)
    train_loop = build_train_loop(state, config, use_xla, blocks)

    def run(num_steps: int) -> None:
        if not train_loop(batches, tf.constant(num_steps, tf.int64)):
            raise TrainingError("a loss or gradient is not finite")

    run(_PROBE_STEPS)  # compiles
    started = time.perf_counter()
    run(_PROBE_STEPS)
    step_seconds = (time.perf_counter() - started) / _PROBE_STEPS
    fitting = int(seconds / _MIN_CALLS / step_seconds)
    steps_per_call = min(max(fitting, 1), _STEPS_PER_CALL)
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds or calls < _MIN_CALLS:
        run(steps_per_call)
        calls += 1
    steps = calls * steps_per_call
    return {"ms": (time.perf_counter() - started) / steps * 1e3, "steps": steps}
