"""The machine and the versions that measurements were made with."""

import importlib.metadata
import os
import platform
import subprocess
from typing import Any

from aelab.errors import UsageError
from aelab.system.machine import cpu_model, cpu_name

_PACKAGES = ("tensorflow", "keras", "numpy", "torch")


def describe(device: str) -> dict[str, Any]:
    """This machine; `device` is the measured one, cpu or gpu.

    Returns the CPU's name and model (`cpu`), the number of cores that this process may
    use (`cores`), names and drivers of the GPUs (`gpu`; None if none is measured), and
    the `versions` of Python and of each package (None if it is not installed).
    """
    packages = reversed([*importlib.metadata.distributions()])  # the first one counts
    installed = {package.name: package.version for package in packages}
    versions = {"python": platform.python_version()}
    versions |= {package: installed.get(package) for package in _PACKAGES}
    gpu = _gpu_names() if device == "gpu" else None
    cores = len(os.sched_getaffinity(0))
    cpu = ", ".join(filter(None, (cpu_name(), cpu_model())))
    return {"cpu": cpu, "cores": cores, "gpu": gpu, "versions": versions}


def machine_text(machine: dict[str, Any]) -> str:
    """A described machine in one line."""
    versions = (f"{n} {v}" for n, v in machine["versions"].items() if v is not None)
    gpu = f" GPU: {machine['gpu']}." if machine["gpu"] else ""
    cpu = f"CPU: {machine['cpu']}, {machine['cores']} cores."
    return f"{cpu}{gpu} Versions: {', '.join(versions)}."


def require_device(device: str) -> None:
    """Raises UsageError if `device` is gpu and TensorFlow sees none."""
    import tensorflow as tf

    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise UsageError("--device=gpu: TensorFlow sees no GPU")


def _gpu_names() -> str | None:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return "; ".join(done.stdout.splitlines())
