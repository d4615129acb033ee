"""What the measurements were made on and with."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from aelab.errors import UsageError

_CPU_INFO = Path("/proc/cpuinfo")
_PACKAGES = ("tensorflow", "keras", "numpy", "torch")


def num_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(device: str) -> dict[str, Any]:
    """CPU, cores, GPU, and versions; None for what is not installed or not used.

    Args:
      device: cpu or gpu, what is measured.
    """
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "cpu": _cpu_name(),
        "cores": num_cores(),
        "gpu": _gpu_name() if device == "gpu" else None,
        "versions": {"python": platform.python_version()} | versions,
    }


def _cpu_name() -> str:
    """The CPU's name as the kernel gives it."""
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _gpu_name() -> str | None:
    """Name and driver of the GPUs, as NVIDIA's own tool gives them."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return "; ".join(found.stdout.splitlines())


def require(device: str) -> None:
    """Raises UsageError if `device` is gpu and TensorFlow sees none."""
    import tensorflow as tf

    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise UsageError("--device=gpu: TensorFlow sees no GPU")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
