"""Runs each measurement in a process of its own.

A job is a dict for JSON. It always has:
  kind: a key of `_MODULES`.
  device: cpu or gpu.
  seconds: duration of the measurement.
Jobs of the kinds ours, fit and torch also have:
  config: the fields of a `Config`.
  images: a .npy file of uint8 [n, H, W, C].
  setting: one of `recipes.SETTINGS`.
Their result is `ms`, the mean milliseconds per step, and `steps`, the number of steps.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).parents[1] / "benchmark.py"
_TIMEOUT_SECONDS = 900.0
# The module of each kind of job; it has a function `measure(job)`.
_MODULES = {
    "ours": "benchmarking.ours",
    "fit": "benchmarking.fit",
    "torch": "benchmarking.pytorch",
    "limit": "benchmarking.limit",
    "scale": "benchmarking.scale",
}
# Removed from the user's environment, because they would change the results.
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_WAIT_POLICY = "OMP_WAIT_POLICY"
_SPIN_COUNT = "GOMP_SPINCOUNT"
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


def run_in_process(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs a job in a new process.

    Args:
      job: see above.
      folder: a cache that processes share.

    Returns:
      The result of the measurement, or `error`: the last line of the error output.
    """
    command = [sys.executable, str(_SCRIPT), "--job", json.dumps(job)]
    limit = _TIMEOUT_SECONDS + 10 * job.get("seconds", 0)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            env=_environment(job, folder),
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it had not ended after {limit:.0f} s"}
    try:
        if done.returncode == 0:
            result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return result
    except (ValueError, IndexError):
        pass
    return {"error": _reason(done.stderr, done.returncode)}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Runs a job in this process; imports only the module that it needs."""
    result: dict[str, Any] = importlib.import_module(_MODULES[job["kind"]]).measure(job)
    return result


def _environment(job: dict[str, Any], folder: Path) -> dict[str, str]:
    """The environment of the process that runs `job`."""
    removed = (_ONEDNN, _WAIT_POLICY, _SPIN_COUNT)
    environment = {n: value for n, value in os.environ.items() if n not in removed}
    if job["device"] == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    if job["kind"] in ("fit", "limit"):
        onednn = job.get("setting", {}).get("onednn", True)
        environment |= {**_QUIET, _ONEDNN: str(int(onednn))}
    if job["kind"] == "torch":
        if job["setting"]["passive"]:
            environment[_WAIT_POLICY] = "passive"
        # Compile once for all rounds, without worker processes that compile ahead.
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
        environment["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    return environment


def _reason(errors: str, code: int) -> str:
    """The last line of a process's error output, or the way it ended."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if code < 0:
        return f"ended by signal {-code}"
    return lines[-1] if lines else f"exit code {code}, without a message"
