"""The machine and the versions that measurements were made with."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from aelab.errors import UsageError

_CPU_INFO = Path("/proc/cpuinfo")
_PACKAGES = ("tensorflow", "keras", "numpy", "torch")


def describe(device: str) -> dict[str, Any]:
    """This machine; `device` is the measured one, cpu or gpu.

    Returns:
      `cpu`: the CPU's name; `cores`: number of cores that this process may use; `gpu`:
      names and drivers of the GPUs, None if none is measured; `versions`: of Python and
      of each package, None if a package is not installed.
    """
    versions = {"python": platform.python_version()}
    versions |= {package: _version(package) for package in _PACKAGES}
    gpu = _gpu_names() if device == "gpu" else None
    return {"cpu": _cpu_name(), "cores": num_cores(), "gpu": gpu, "versions": versions}


def machine_text(machine: dict[str, Any]) -> str:
    """A described machine in one line."""
    versions = (f"{n} {v}" for n, v in machine["versions"].items() if v is not None)
    gpu = f" GPU: {machine['gpu']}." if machine["gpu"] else ""
    cpu = f"CPU: {machine['cpu']}, {machine['cores']} cores."
    return f"{cpu}{gpu} Versions: {', '.join(versions)}."


def num_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def require_device(device: str) -> None:
    """Raises UsageError if `device` is gpu and TensorFlow sees none."""
    import tensorflow as tf

    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise UsageError("--device=gpu: TensorFlow sees no GPU")


def _cpu_name() -> str:
    """The CPU's name according to the kernel."""
    text = _CPU_INFO.read_text(errors="replace") if _CPU_INFO.exists() else ""
    name = re.search(r"^model name\s*:(.*)$", text, re.MULTILINE)
    return name[1].strip() if name else platform.processor() or platform.machine()


def _gpu_names() -> str | None:
    """Names and drivers of the GPUs according to nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return "; ".join(done.stdout.splitlines())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
