"""The arithmetic limit: how fast this machine multiplies, and how much there is to do.

A float32 matrix product represents the best that the cores can do. The FLOPs of a step
are counted for the matrix products and convolutions of the stock network, even if there
is a faster way to compute the same.
"""

import math
import statistics
import time
from typing import Any

from benchmarking.machine import require_device

_SIZES = {"cpu": 2048, "gpu": 8192}
_MAX_SECONDS = 5.0
_MIN_PRODUCTS = 3


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Measures the limit, and counts FLOPs.

    Args:
      job: `device`, cpu or gpu; `seconds`, the duration; `configs`, the fields of a
        `Config` by any name.

    Returns:
      `gflops`: 10^9 FLOP/s; `flops`: FLOPs of a training step, by the same names.
    """
    from compare_with_fit import STOCK_MODELS

    from aelab.config import Config
    from aelab.data.sketch import SIDE

    require_device(job["device"])
    size = _SIZES[job["device"]]
    gflops = _matrix_product(size, min(job["seconds"], _MAX_SECONDS))
    flops = {}
    for name, fields in job["configs"].items():
        config = Config(**fields)
        model = STOCK_MODELS[config.model](config, (SIDE, SIDE, 1))
        flops[name] = config.batch_size * flops_per_image(model)
    return {"gflops": gflops, "flops": flops}


def flops_per_image(model: Any) -> int:
    """FLOPs of the forward and backward pass for one image.

    Only Dense and Conv2D layers count, with two FLOPs for each multiplication and
    addition. In the backward pass the gradient of the weights and the gradient of the
    inputs each cost as much as the forward pass; the gradient of the network's own
    input is not needed. Pixels in the padding count like any other.

    Args:
      model: a `keras.Sequential`.
    """
    forward = [_forward_flops(layer) for layer in model.layers]
    weighted = [flops for flops in forward if flops]
    return 3 * sum(weighted) - weighted[0]


def _forward_flops(layer: Any) -> int:
    """FLOPs of a layer's matrix product for one image, 0 if it has none."""
    if type(layer).__name__ not in ("Dense", "Conv2D"):
        return 0
    # Each position of the output takes one product with the whole kernel.
    positions = math.prod(layer.output.shape[1:-1])
    return 2 * positions * math.prod(layer.kernel.shape)


def _matrix_product(size: int, seconds: float) -> float:
    """Median speed of a float32 product of square matrices, in 10^9 FLOP/s."""
    import numpy as np
    import tensorflow as tf

    left, right = np.random.default_rng(0).random((2, size, size), np.float32)
    left, right = tf.constant(left), tf.constant(right)
    times: list[float] = []
    tf.matmul(left, right)[0, 0].numpy()
    first = time.perf_counter()
    while time.perf_counter() - first < seconds or len(times) < _MIN_PRODUCTS:
        started = time.perf_counter()
        tf.matmul(left, right)[0, 0].numpy()  # reading a value waits for a GPU
        times.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(times) / 1e9
