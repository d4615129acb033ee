"""Measures our loop with more images, larger batches and larger images."""

import math
import resource
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table

from aelab.data.sources import ArraySource
from benchmarking.jobs import draw, run_in_process
from benchmarking.machine import describe, machine_text
from benchmarking.ours import time_loop
from benchmarking.recipes import MODELS, recipe

_STORED_IMAGES = 6_000
_EXAMPLES = (6_000, 60_000, 600_000, 6_000_000)
_BATCH_SIZES = (32, 128, 512, 4096)
_IMAGE_SIZES = (28, 64, 128, 256)
_HEAD = (
    *("model", "examples", "batch", "image", "images/s", "ms per step"),
    *("peak memory, MB", "images in memory, MB"),
)


class RepeatingSource:
    """A `Source` that repeats a few images without using more memory."""

    def __init__(self, images: np.ndarray, count: int):
        """Repeats `images`, uint8 [n, H, W, C], up to `count` examples."""
        self._images, self._count = images, count
        self.image_shape: tuple[int, int, int] = images.shape[1:]

    @property
    def fingerprint(self) -> str:
        """See `Source.fingerprint`."""
        return f"{self._count} examples of {ArraySource(self._images).fingerprint}"

    def __len__(self) -> int:
        return self._count

    def read(self, indices: np.ndarray) -> np.ndarray:
        """See `Source.read`."""
        return self._images[indices % len(self._images)]

    def take(self, count: int) -> "RepeatingSource":
        """See `Source.take`."""
        return RepeatingSource(self._images, count)

    def divide(self, held_out: int) -> "tuple[RepeatingSource, RepeatingSource]":
        """See `Source.divide`."""
        return self.take(len(self) - held_out), self.take(held_out)


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """The first images in another size, in at most as many bytes, but at least one.

    From uint8 [n, H, W, C] to [m, size, size, C]. Each pixel has the value of the
    nearest one.
    """
    count = max(1, len(images) * math.prod(images.shape[1:3]) // size**2)
    rows, columns = (np.arange(size) * side // size for side in images.shape[1:3])
    return images[:count, rows][:, :, columns]


def cases() -> list[dict[str, Any]]:
    """The measured cases: `model`, `examples`, `batch_size`, `image_size`."""
    every = []
    for model in MODELS:
        batch_size = recipe(model).batch_size
        every += [(model, examples, batch_size, 28) for examples in _EXAMPLES]
        every += [(model, 60_000, size, 28) for size in _BATCH_SIZES]
        every += [(model, 60_000, 32, size) for size in _IMAGE_SIZES]
    names = ("model", "examples", "batch_size", "image_size")
    return [dict(zip(names, case, strict=True)) for case in dict.fromkeys(every)]


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times a case on `images`, a .npy file of uint8 [n, H, W, C].

    Adds `peak_bytes`, the largest resident memory of the process, and `source_bytes`,
    the size of its images, to the result of `time_loop`.
    """
    images = resized(np.load(job["images"]), job["image_size"])
    source = RepeatingSource(images, job["examples"])
    config = recipe(job["model"], batch_size=job["batch_size"])
    result = time_loop(config, source, job["seconds"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return result | {"peak_bytes": peak * 1024, "source_bytes": images.nbytes}


def run(flags: Any, folder: Path) -> dict[str, Any]:
    """Measures all cases, each in its own process; returns the report for `--json`."""
    records, seconds = [], flags.seconds
    common = {"kind": "scale", "device": "cpu", "seconds": seconds}
    common["images"] = str(draw(_STORED_IMAGES, folder))
    for case in cases():
        result = run_in_process(common | case, folder)
        records.append(case | result)
        words = ", ".join(f"{name} {value}" for name, value in case.items())
        outcome = result.get("error") or f"{result['ms']:.2f} ms per step"
        print(f"{words}: {outcome}", flush=True)
    return {"machine": describe("cpu"), "seconds": seconds, "records": records}


def text(report: dict[str, Any]) -> str:
    """The table of a report, with the explanations that it needs."""
    return (
        f"{markdown_table(_HEAD, map(_cells, report['records']))}\n\n"
        "Float32, only our loop. Each line is a process of its own and lasts "
        f"{report['seconds']:g} seconds. The examples repeat up to {_STORED_IMAGES:,} "
        "images, fewer if they are larger, so that all take about the same memory. "
        "They are read like any source, once per batch in Python.\n\n"
        f"{machine_text(report['machine'])}"
    )


def _cells(record: dict[str, Any]) -> list[str]:
    """A line of the table."""
    size, batch_size = record["image_size"], record["batch_size"]
    case = [record["model"], f"{record['examples']:,}", f"{batch_size:,}"]
    case.append(f"{size} x {size}")
    if "error" in record:
        return [*case, f"failed: {record['error']}", *[""] * 3]
    speed = [f"{batch_size / record['ms'] * 1e3:,.0f}", f"{record['ms']:.2f}"]
    sizes = record["peak_bytes"], record["source_bytes"]
    return [*case, *speed, *(f"{size / 1e6:,.1f}" for size in sizes)]
