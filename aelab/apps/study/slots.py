"""The parts of the machine that the processes of a study may use."""

import os
from typing import NamedTuple

_GPUS = "/proc/driver/nvidia/gpus"  # a folder for each


class Slot(NamedTuple):
    """The part of the machine that one process may use."""

    cores: list[int]
    gpu: str  # of CUDA_VISIBLE_DEVICES; "" for all


def slots(jobs: int) -> list[Slot]:
    """Equal parts of the machine for `jobs` processes."""
    cores = sorted(os.sched_getaffinity(0))
    size = max(1, len(cores) // jobs)
    gpus = _gpus()
    return [
        Slot(
            [cores[(number * size + i) % len(cores)] for i in range(size)],
            ",".join(gpus[number % len(gpus) :: jobs]) if len(gpus) > 1 else "",
        )
        for number in range(jobs)
    ]


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    found = os.listdir(_GPUS) if os.path.isdir(_GPUS) else []
    return [str(number) for number in range(len(found))]
