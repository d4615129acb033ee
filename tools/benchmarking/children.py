"""Each measurement is a process of its own: how it is started, and what it does."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).parents[1] / "benchmark.py"
_HANG_SECONDS = 900.0
# By what a job calls its kind; each has a function `measure(job)`.
_MEASUREMENTS = {
    "ours": "benchmarking.ours",
    "fit": "benchmarking.fit",
    "torch": "benchmarking.pytorch",
    "limit": "benchmarking.limit",
    "scale": "benchmarking.scale",
}
# They would change what is measured, if they stood in the user's environment.
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_WAIT_POLICY = "OMP_WAIT_POLICY"
_SPIN_COUNT = "GOMP_SPINCOUNT"
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


def measure_apart(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Does a job in a new process.

    Args:
      job: `kind`, of `_MEASUREMENTS`; `device`, cpu or gpu; and what the measurement
        needs.
      folder: where the process may leave what the next one can use.

    Returns:
      What the measurement returned, or `error`: the last line of what it said.
    """
    command = [sys.executable, str(_SCRIPT), "--job", json.dumps(job)]
    limit = _HANG_SECONDS + 10 * job.get("seconds", 0)
    try:
        found = subprocess.run(
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
        if found.returncode == 0:
            result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
            return result
    except (ValueError, IndexError):
        pass
    return {"error": _reason(found.stderr, found.returncode)}


def do(job: dict[str, Any]) -> dict[str, Any]:
    """Does a job in this process, which imports only what this job needs."""
    measurement = importlib.import_module(_MEASUREMENTS[job["kind"]])
    result: dict[str, Any] = measurement.measure(job)
    return result


def _environment(job: dict[str, Any], folder: Path) -> dict[str, str]:
    """The environment of the process that does `job`."""
    set_here = (_ONEDNN, _WAIT_POLICY, _SPIN_COUNT)
    environment = {n: value for n, value in os.environ.items() if n not in set_here}
    if job["device"] == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    if job["kind"] in ("fit", "limit"):
        onednn = job.get("setting", {}).get("onednn", True)
        environment |= {**_QUIET, _ONEDNN: str(int(onednn))}
    if job["kind"] == "torch":
        if job["setting"]["passive"]:
            environment[_WAIT_POLICY] = "passive"
        # Compiled once for all rounds, and without processes that compile ahead.
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
        environment["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    return environment


def _reason(errors: str, code: int) -> str:
    """The last line of what a process said, or what ended it."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if code < 0:
        return f"ended by signal {-code}"
    return lines[-1] if lines else f"exit code {code}, without a message"
