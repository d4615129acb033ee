"""Runs each measurement in a process of its own.

A job is a dict for JSON. It has `kind`, a key of `_MODULES`; `device`, cpu or gpu; and
`seconds`, the duration of the measurement. Jobs of the kinds ours, fit and torch have
`config`, the fields of a `Config`; `images`, a .npy file of uint8 [n, H, W, C]; and
`setting`, one of `recipes.SETTINGS`. Their result is `ms`, the mean milliseconds per
step, and `steps`, the number of steps.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from aelab.config import Config
from aelab.data.pixels import to_unit
from aelab.data.synthetic import draw_images

_SCRIPT = Path(__file__).parents[1] / "benchmark.py"
_TIMEOUT_SECONDS = 900.0
# The module of each kind of job; it has a function `measure(job)`.
_MODULES = {kind: kind for kind in ("ours", "fit", "limit", "scale")}
_MODULES["torch"] = "pytorch"
# Removed from the user's environment, because they would change the results.
_REMOVED = ("TF_ENABLE_ONEDNN_OPTS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def run_in_process(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs a job in a new process; `folder` is a cache that processes share.

    Returns the result of the measurement, or `error`, the last line of its errors.
    """
    command = [sys.executable, str(_SCRIPT), "--job", json.dumps(job)]
    options = {"capture_output": True, "text": True, "errors": "replace"}
    options |= {"env": _environment(job, folder)}
    limit = _TIMEOUT_SECONDS + 10 * job.get("seconds", 0)
    try:
        done = subprocess.run(command, timeout=limit, **options)
    except subprocess.TimeoutExpired:
        return {"error": f"it had not ended after {limit:.0f} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if done.returncode < 0:
        return {"error": f"ended by signal {-done.returncode}"}
    silent = f"exit code {done.returncode}, without a message"
    return {"error": (done.stderr.strip() or silent).splitlines()[-1].strip()}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Runs a job in this process; imports only the module that it needs."""
    module = importlib.import_module(f"benchmarking.{_MODULES[job['kind']]}")
    return module.measure(job)


def draw(count: int, folder: Path) -> Path:
    """Draws images of the embedded data set into a .npy file for all processes."""
    path = folder / "images.npy"
    np.save(path, draw_images(count, seed=1)[0])
    return path


def peers_data(path: str, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Input and target in memory, from the images of a file: float32 [n, H, W, C].

    The input is one fixed noisy copy in [0, 1], which follows from `noise_stddev` and
    `seed`. Without noise it is the same array as the target.
    """
    y = to_unit(np.load(path))
    if not config.noise_stddev:
        return y, y
    x = np.random.default_rng(config.seed).standard_normal(y.shape, np.float32)
    x *= np.float32(config.noise_stddev)
    x += y
    return np.clip(x, 0, 1, out=x), y


def _environment(job: dict[str, Any], folder: Path) -> dict[str, str]:
    """The environment of the process that runs `job`."""
    environment = {n: text for n, text in os.environ.items() if n not in _REMOVED}
    if job["device"] == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    if job["kind"] in ("fit", "limit"):
        onednn = job.get("setting", {}).get("onednn", True)
        environment["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    if job["kind"] == "torch":
        if job["setting"]["passive"]:
            environment["OMP_WAIT_POLICY"] = "passive"
        # Compile once for all rounds, without worker processes that compile ahead.
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
        environment["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    return environment
