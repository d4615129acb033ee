"""The arithmetic limit: the FLOPs of a step at the speed of a float32 matrix product.

The FLOPs are counted for the matrix products and convolutions of the stock network,
even if there is a faster way to compute the same.
"""

import math
import statistics
import time
from typing import Any

import numpy as np
import tensorflow as tf
from compare_with_fit import STOCK_MODELS

from aelab.config import Config
from aelab.data.sketch import SIDE
from benchmarking.machine import require_device

_SIZES = {"cpu": 2048, "gpu": 8192}
_MAX_SECONDS = 5.0
_MIN_PRODUCTS = 3


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Measures `gflops`, 10^9 FLOP/s, and counts `flops`, FLOPs of a training step.

    The job has `configs`, the fields of a `Config` by name; `flops` has the same names.
    """
    require_device(job["device"])
    seconds = min(job["seconds"], _MAX_SECONDS)
    gflops, flops = _matrix_product(_SIZES[job["device"]], seconds), {}
    for name, fields in job["configs"].items():
        config = Config(**fields)
        model = STOCK_MODELS[config.model](config, (SIDE, SIDE, 1))
        flops[name] = config.batch_size * flops_per_image(model)
    return {"gflops": gflops, "flops": flops}


def flops_per_image(model: Any) -> int:
    """FLOPs of the forward and backward pass of a `keras.Sequential` for one image.

    Only Dense and Conv2D layers count, with two FLOPs for each multiplication and
    addition. Each position of the output takes one product with the whole kernel;
    pixels in the padding count. In the backward pass, the gradients of the weights and
    of the inputs each cost as much as the forward pass. The gradient of the network's
    own input is not needed.
    """
    forward = [
        2 * math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
        for layer in model.layers
        if type(layer).__name__ in ("Dense", "Conv2D")
    ]
    return 3 * sum(forward) - forward[0]


def _matrix_product(size: int, seconds: float) -> float:
    """Median speed of a float32 product of square matrices, in 10^9 FLOP/s."""
    random = np.random.default_rng(0).random((2, size, size), np.float32)
    left, right = map(tf.constant, random)
    times: list[float] = []
    tf.matmul(left, right)[0, 0].numpy()
    first = time.perf_counter()
    while time.perf_counter() - first < seconds or len(times) < _MIN_PRODUCTS:
        started = time.perf_counter()
        tf.matmul(left, right)[0, 0].numpy()  # reading a value waits for a GPU
        times.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(times) / 1e9
