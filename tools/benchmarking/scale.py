"""Our loop alone, with more images, larger batches and larger images."""

import math
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from aelab.config import Config
from aelab.data.sources import ArraySource
from benchmarking import machine
from benchmarking.children import measure_apart
from benchmarking.recipes import MODELS, fields_of, recipe
from benchmarking.table import machine_text, markdown

STORED_IMAGES = 6_000
_EXAMPLES = (6_000, 60_000, 600_000, 6_000_000)
_BATCH_SIZES = (32, 128, 512, 4096)
_IMAGE_SIZES = (28, 64, 128, 256)
_COMMON_EXAMPLES = 60_000
_BATCH_OF_IMAGE_SIZES = 32
_HEAD = (
    *("model", "examples", "batch", "image", "images/s", "ms a step"),
    *("peak memory, MB", "images in memory, MB"),
)


class RepeatingSource:
    """A source that shows a few images again and again, in no more memory.

    Attributes:
      image_shape: (height, width, channels) of every image.
    """

    def __init__(self, images: np.ndarray, count: int):
        """Takes `images`, uint8 [n, H, W, C]; `count` is how many it seems to have."""
        self._images, self._count = images, count
        self.image_shape: tuple[int, int, int] = images.shape[1:]

    @property
    def fingerprint(self) -> str:
        """A short text that is equal for equal images in equal order."""
        return f"{self._count} examples of {ArraySource(self._images).fingerprint}"

    @property
    def nbytes(self) -> int:
        """How many bytes the images take in memory."""
        return int(self._images.nbytes)

    def __len__(self) -> int:
        return self._count

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices` (int64 [n]): uint8 [n, height, width, channels]."""
        chosen: np.ndarray = self._images[indices % len(self._images)]
        return chosen

    def take(self, count: int) -> "RepeatingSource":
        """A source of the first `count` images, at least 1 and no more than all."""
        return RepeatingSource(self._images, count)


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Images of another size, each pixel the nearest one; in about as many bytes.

    Args:
      images: uint8 [n, H, W, C].
      size: of the new images' sides, in pixels.

    Returns:
      uint8 [m, size, size, C], of the first m images.
    """
    count = max(1, len(images) * math.prod(images.shape[1:3]) // size**2)
    rows, columns = (np.arange(size) * side // size for side in images.shape[1:3])
    return images[: min(count, len(images)), rows][:, :, columns]


def cases() -> list[dict[str, Any]]:
    """What is measured: `model`, `examples`, `batch_size`, `image_size`."""
    found = []
    for model in MODELS:
        usual = {
            "model": model,
            "examples": _COMMON_EXAMPLES,
            "batch_size": recipe(model).batch_size,
            "image_size": 28,
        }
        small = usual | {"batch_size": _BATCH_OF_IMAGE_SIZES}
        found += [usual | {"examples": examples} for examples in _EXAMPLES]
        found += [usual | {"batch_size": size} for size in _BATCH_SIZES]
        found += [small | {"image_size": size} for size in _IMAGE_SIZES]
    return [case for number, case in enumerate(found) if case not in found[:number]]


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times one case.

    Args:
      job: a case, with `images`, a .npy file of uint8 [n, H, W, C], and `seconds`.

    Returns:
      `ms`, milliseconds a step; `steps`, how many; `peak_bytes`, the most memory that
      the process had resident; `source_bytes`, what its images take.
    """
    from benchmarking.ours import time_loop

    images = resized(np.load(job["images"]), job["image_size"])
    source = RepeatingSource(images, job["examples"])
    found = time_loop(Config(**job["config"]), source, job["seconds"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return found | {"peak_bytes": peak * unit, "source_bytes": source.nbytes}


def run(images: Path, seconds: float, folder: Path) -> dict[str, Any]:
    """Measures all cases, each in a process of its own."""
    records = []
    for case in cases():
        config = recipe(case["model"], batch_size=case["batch_size"])
        job = {
            "kind": "scale",
            "device": "cpu",
            "config": fields_of(config),
            "images": str(images),
            "seconds": seconds,
        }
        found = measure_apart(job | case, folder)
        records.append(case | found)
        told = f"{found['ms']:.2f} ms a step" if "ms" in found else found["error"]
        words = ", ".join(f"{name} {value}" for name, value in case.items())
        print(f"{words}: {told}", flush=True)
    return {"machine": machine.describe("cpu"), "seconds": seconds, "records": records}


def text(report: dict[str, Any]) -> str:
    """The table of a report of `run`, and what one must know to read it."""
    return "\n\n".join(
        [
            markdown(_HEAD, map(_cells, report["records"])),
            "Float32, our loop alone, each line in a process of its own, "
            f"{report['seconds']:g} seconds long. The examples repeat up to "
            f"{STORED_IMAGES:,} images, larger ones fewer, so that all take about as "
            "much memory; they are read as from any source, once a batch in Python.",
            machine_text(report["machine"]),
        ]
    )


def _cells(record: dict[str, Any]) -> list[str]:
    """A line of the table."""
    size = record["image_size"]
    case = [
        *(record["model"], f"{record['examples']:,}"),
        *(f"{record['batch_size']:,}", f"{size} x {size}"),
    ]
    if "error" in record:
        return [*case, f"failed: {record['error']}", "", "", ""]
    return [
        *case,
        f"{record['batch_size'] / record['ms'] * 1e3:,.0f}",
        f"{record['ms']:.2f}",
        *(f"{record[f'{name}_bytes'] / 1e6:,.1f}" for name in ("peak", "source")),
    ]
