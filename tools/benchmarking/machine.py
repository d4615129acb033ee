"""The machine and the versions that measurements were made with."""

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from aelab.errors import UsageError

_CPU_INFO = Path("/proc/cpuinfo")
_PACKAGES = ("tensorflow", "keras", "numpy", "torch")


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine.

    Attributes:
      cpu: the CPU's name.
      cores: number of cores that this process may use.
      gpu: names and drivers of the GPUs; None if none is measured.
      versions: of Python and of each package; None if a package is not installed.
    """

    cpu: str
    cores: int
    gpu: str | None
    versions: dict[str, str | None]

    def __str__(self) -> str:
        """All of it in one line."""
        versions = (f"{name} {v}" for name, v in self.versions.items() if v is not None)
        gpu = f" GPU: {self.gpu}." if self.gpu else ""
        cpu = f"CPU: {self.cpu}, {self.cores} cores."
        return f"{cpu}{gpu} Versions: {', '.join(versions)}."


def describe(device: str) -> Machine:
    """This machine; `device` is the measured one, cpu or gpu."""
    versions = {name: _version(name) for name in _PACKAGES}
    return Machine(
        cpu=_cpu_name(),
        cores=num_cores(),
        gpu=_gpu_name() if device == "gpu" else None,
        versions={"python": platform.python_version()} | versions,
    )


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
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _gpu_name() -> str | None:
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
