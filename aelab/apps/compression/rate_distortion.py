"""Bytes against quality: our models and the baselines, in a table and a plot."""

import io
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from aelab.apps.compression import baselines as others
from aelab.apps.compression.baselines import Point
from aelab.apps.compression.codec import open_codec, read_images
from aelab.apps.compression.codec_file import codec_path
from aelab.config import Config
from aelab.data.pixels import unit_tensor
from aelab.data.sources import load_part, with_data_dir
from aelab.errors import UsageError
from aelab.metrics import psnr, ssim
from aelab.runs.directory import RunDirectory
from aelab.system.console import printable
from aelab.system.files import write_bytes
from aelab.system.optional import require
from aelab.system.outputs import check_outputs

_DENSE_STEPS = (0.5, 1.0, 2.0, 4.0)
_BATCH = 500
_LEVELS = (20.0, 20.7, 22.0)  # dB, at which curves are compared
_LOSSLESS = 100.0  # dB, the PSNR of an exact copy
_OURS = "learned codec"


class Measurement(NamedTuple):
    """A `Point` with quality: means over images, except for the total `model_bytes`."""

    codec: str
    setting: str
    bytes: float
    ideal_bytes: float | None
    model_bytes: int | None
    psnr: float  # in dB
    ssim: float  # at most 1


def rate_distortion(
    run_dirs: Sequence[str],
    output: str,
    checkpoint: str = "best",
    data_dir: str = "",
    baselines: bool = True,
    model: str = "",
    overwrite: bool = False,
) -> list[Measurement]:
    """Compresses the test images of runs with their models and with baselines.

    Writes `rate_distortion.json` and `rate_distortion.png` to the folder `output`. All
    runs must have the same test images. `baselines` says whether to measure other
    codecs as well, which takes a minute or two. See `open_codec` for the rest.

    Raises:
      UsageError: a run or a library is missing, or the test images differ.
    """
    plotting = require("matplotlib.figure", extra="report")
    json_path, png_path = (
        os.path.join(output, f"rate_distortion.{suffix}") for suffix in ("json", "png")
    )
    check_outputs([json_path, png_path], overwrite)
    try:
        os.makedirs(output, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output={output} can't be created: {error}") from None
    runs = [RunDirectory(path) for path in run_dirs]
    config = _shared_config(runs, data_dir)
    images = read_images(load_part(config, "test"))
    points = [_run_points(run, checkpoint, data_dir, images, model) for run in runs]
    if baselines:
        training = read_images(load_part(config, "train"))
        points += [others.principal_components(images, training)]
        points += [others.image_codecs(images)]
    results = [_measure(p, images) for p in itertools.chain.from_iterable(points)]
    content = {"images": len(images), "points": [r._asdict() for r in results]}
    text = json.dumps(content, indent=2) + "\n"
    write_bytes(json_path, text.encode())
    plot = _plot(results, plotting.Figure)
    write_bytes(png_path, plot)
    return results


def _shared_config(runs: Sequence[RunDirectory], data_dir: str) -> Config:
    """The first run's configuration, if all have the same test images."""
    prints = {r.path: (_test_images(r, data_dir), r.read_image_shape()) for r in runs}
    if len(set(prints.values())) > 1:
        described = "; ".join(f"{path}: {text}" for path, text in prints.items())
        raise UsageError(f"the runs must have the same test images ({described})")
    return with_data_dir(runs[0].read_config(), data_dir)


def _test_images(run: RunDirectory, data_dir: str) -> Any:
    """The fingerprint of a run's test images, which only some runs have read."""
    config = run.read_config()
    if config.eval_part == "test":
        return run.read_data().get("eval")
    return load_part(with_data_dir(config, data_dir), "test").fingerprint


def _run_points(
    run: RunDirectory, checkpoint: str, data_dir: str, images: np.ndarray, model: str
) -> Iterator[Point]:
    """One point for a model that has a prior, else one per quantizer step."""
    first = open_codec(run, checkpoint, data_dir, model=model)
    has_prior = first.networks.has_prior
    steps = [] if has_prior else sorted({*_DENSE_STEPS} - {first.tables.step})
    more = (open_codec(run, checkpoint, data_dir, step, model) for step in steps)
    name = printable(os.path.basename(os.path.abspath(run.path)))
    for codec in itertools.chain([first], more):
        symbols, shape = codec.encode(images), codec.networks.image_shape
        size, ideal_bytes = others.packed_bytes(symbols, codec.tables, shape)
        yield Point(
            _OURS if has_prior else f"{name}, rounded",
            name if has_prior else f"step {codec.tables.step:.3g}",
            size,
            codec.decode(symbols),
            ideal_bytes,
            os.path.getsize(codec_path(run, codec.key)),
        )


def _measure(point: Point, images: np.ndarray) -> Measurement:
    """Compares a point's images with the original `images`."""
    count = len(images)
    parts = [slice(first, first + _BATCH) for first in range(0, count, _BATCH)]

    def mean(metric: Any) -> float:
        """The mean over images of a metric, computed in batches."""
        pairs = [(images[p], point.images[p]) for p in parts]
        values = [metric(*map(unit_tensor, p)) for p in pairs]
        return float(np.mean(np.concatenate(values)))

    return Measurement(
        point.codec,
        point.setting,
        point.file_bytes / count,
        point.ideal_bytes and point.ideal_bytes / count,
        point.model_bytes,
        mean(psnr),
        mean(ssim),
    )


def table(points: Sequence[Measurement]) -> str:
    """All points, and the bytes of each curve at some levels of PSNR."""
    lines = [f"{'codec':26} {'setting':26} {'bytes':>8} {'PSNR':>6} {'SSIM':>6}"]
    for point in points:
        decibels = "exact" if point.psnr >= _LOSSLESS else f"{point.psnr:.2f}"
        lines.append(
            f"{point.codec:26} {point.setting:26} {point.bytes:8.2f} "
            f"{decibels:>6} {point.ssim:6.3f}"
        )
    levels = "".join(f"{f'{level:g} dB':>9}" for level in _LEVELS)
    lines += ["", f"{'bytes per image at':26}{levels}"]
    for name, curve in curves(points).items():
        sizes = [bytes_at(curve, level) for level in _LEVELS]
        if any(sizes):
            row = "".join(f"{size:9.2f}" if size else f"{'':9}" for size in sizes)
            lines.append(f"{name:26}{row}")
    return "\n".join(lines)


def curves(points: Sequence[Measurement]) -> dict[str, list[tuple[float, float]]]:
    """For each codec, (bytes, PSNR) of its Pareto-optimal points, sorted by bytes."""
    by_codec: dict[str, list[tuple[float, float]]] = {}
    for point in sorted(points, key=lambda point: (point.bytes, -point.psnr)):
        curve = by_codec.setdefault(point.codec, [])
        if not curve or point.psnr > curve[-1][1]:
            curve.append((point.bytes, point.psnr))
    return by_codec


def bytes_at(curve: Sequence[tuple[float, float]], level: float) -> float | None:
    """Bytes at a PSNR, by linear interpolation; None outside the curve."""
    if not curve[0][1] <= level <= curve[-1][1] < _LOSSLESS:
        return None
    sizes, decibels = zip(*curve, strict=True)
    return float(np.interp(level, decibels, sizes))


def _plot(points: Sequence[Measurement], figure_class: Any) -> bytes:
    """A PNG of PSNR over bytes with one curve per codec."""
    figure = figure_class(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves(points).items()):
        lossy = [(size, level) for size, level in curve if level < _LOSSLESS]
        if not lossy:
            continue
        width, color = (2.5, "black") if name == _OURS else (1.2, f"C{number % 10}")
        style = {"linewidth": width, "color": color, "marker": "o", "markersize": 4}
        axes.plot(*zip(*lossy, strict=True), label=name, **style)
    axes.set(xscale="log", ylabel="PSNR, dB")
    axes.set_xlabel("bytes per image, file headers included")
    ticks = [2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.grid(True, color="0.9")
    axes.legend(fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
