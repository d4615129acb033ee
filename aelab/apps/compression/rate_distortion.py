"""Bytes against quality: our models and what they must beat, in a table and a plot."""

import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from aelab.apps.compression.baselines import BASELINES_OF_CODECS, Point, packed_bytes
from aelab.apps.compression.codec import codec_path, open_codec
from aelab.config import Config
from aelab.data.sources import load_split, with_data_dir
from aelab.errors import ImageError, UsageError
from aelab.metrics import psnr, ssim
from aelab.runs.directory import RunDirectory
from aelab.system.files import write_bytes

_DENSE_STEPS = (0.5, 1.0, 2.0, 4.0)
_BATCH = 500
_LEVELS = (20.0, 20.7, 22.0)  # dB, at which curves are compared


def rate_distortion(
    run_dirs: Sequence[str],
    output: str,
    checkpoint: str = "best",
    data_dir: str = "",
    rivals: bool = True,
) -> list[dict[str, Any]]:
    """Compresses the evaluation images of some runs with their models and by rivals.

    Writes `rate_distortion.json` and `rate_distortion.png`.

    Args:
      run_dirs: the runs, which must have the same evaluation images.
      output: the folder to write to.
      checkpoint: `best` or `latest`.
      data_dir: where the data files are now, if they were moved.
      rivals: whether to measure other codecs as well, which takes a minute or two.

    Returns:
      For each point its codec and setting, and the means over images: bytes (of the
      file, header included), ideal_bytes (by the probabilities), psnr in dB and ssim;
      and model_bytes, what the decoder needs besides, in all.

    Raises:
      UsageError: no run, other images, or a library is missing.
    """
    figure_of = _drawing()
    try:
        os.makedirs(output, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output={output} can't be made: {error}") from None
    runs = [RunDirectory(path) for path in run_dirs]
    config = _shared_config(runs, data_dir)
    images = _all(config, "eval")
    points: list[dict[str, Any]] = []
    for run in runs:
        points += [
            _judge(p, images) for p in _of_run(run, checkpoint, data_dir, images)
        ]
    if rivals:
        training = _all(config, "train")
        for measure in BASELINES_OF_CODECS.values():
            points += [_judge(point, images) for point in measure(images, training)]
    content = json.dumps({"images": len(images), "points": points}, indent=2) + "\n"
    write_bytes(os.path.join(output, "rate_distortion.json"), content.encode())
    write_bytes(os.path.join(output, "rate_distortion.png"), _plot(points, figure_of))
    return points


def _shared_config(runs: Sequence[RunDirectory], data_dir: str) -> Config:
    """The first run's configuration, if all have the same evaluation images."""
    prints = {
        run.path: (run.read_data().get("eval"), run.read_image_shape()) for run in runs
    }
    if len(set(prints.values())) > 1:
        told = "; ".join(f"{path}: {text}" for path, text in prints.items())
        raise UsageError(f"the runs must have the same evaluation images ({told})")
    return with_data_dir(runs[0].read_config(), data_dir)


def _all(config: Config, split: str) -> np.ndarray:
    """All images of a split, uint8 [n, H, W, C]."""
    source = load_split(config, split)
    try:
        return source.read(np.arange(len(source)))
    except ImageError as error:
        raise UsageError(str(error)) from None


def _of_run(
    run: RunDirectory, checkpoint: str, data_dir: str, images: np.ndarray
) -> Iterator[Point]:
    """The points of a run: one of a codec, or one for each of some quantiser steps."""
    is_codec = run.read_config().sends_integers()
    automatic = open_codec(run, checkpoint, data_dir)
    others = set() if is_codec else {*_DENSE_STEPS} - {automatic.tables.step}
    coarser = (open_codec(run, checkpoint, data_dir, step) for step in sorted(others))
    for codec in (automatic, *coarser):
        symbols = codec.encode(images)
        name = os.path.basename(os.path.abspath(run.path))
        size, ideal_bytes = packed_bytes(symbols, codec.tables, images.shape[1:])
        yield Point(
            "learned codec" if is_codec else f"{name}, rounded",
            name if is_codec else f"step {codec.tables.step:.3g}",
            size,
            codec.decode(symbols),
            ideal_bytes,
            os.path.getsize(codec_path(run, codec.key)),
        )


def _judge(point: Point, images: np.ndarray) -> dict[str, Any]:
    """The figures of a point beside the images that it was made of."""
    count = len(images)
    figures: dict[str, Any] = {
        "codec": point.codec,
        "setting": point.setting,
        "bytes": point.file_bytes / count,
        "ideal_bytes": point.ideal_bytes and point.ideal_bytes / count,
        "model_bytes": point.model_bytes,
    }
    parts = [slice(first, first + _BATCH) for first in range(0, count, _BATCH)]
    for name, metric in (("psnr", psnr), ("ssim", ssim)):
        values = [metric(_floats(images[p]), _floats(point.images[p])) for p in parts]
        figures[name] = float(np.mean(np.concatenate(values)))
    return figures


def _floats(images: np.ndarray) -> tf.Tensor:
    return tf.constant(images, tf.float32) / 255.0


def table(points: Sequence[dict[str, Any]]) -> str:
    """All points, and at some levels of PSNR the bytes of each curve."""
    lines = [f"{'codec':26} {'setting':26} {'bytes':>8} {'PSNR':>6} {'SSIM':>6}"]
    for point in points:
        lossless = point["psnr"] >= 100
        decibels = "exact" if lossless else f"{point['psnr']:.2f}"
        lines.append(
            f"{point['codec']:26} {point['setting']:26} {point['bytes']:8.2f} "
            f"{decibels:>6} {point['ssim']:6.3f}"
        )
    wide = "".join(f"{f'{level:g} dB':>9}" for level in _LEVELS)
    lines += ["", f"{'bytes an image at':26}{wide}"]
    for name, curve in curves(points).items():
        found = [bytes_at(curve, level) for level in _LEVELS]
        if any(found):
            row = "".join(f"{each:9.2f}" if each else f"{'':9}" for each in found)
            lines.append(f"{name:26}{row}")
    return "\n".join(lines)


def curves(points: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """By codec, (bytes, PSNR) of the points that no other of it beats, by bytes."""
    found: dict[str, list[tuple[float, float]]] = {}
    for point in sorted(points, key=lambda point: (point["bytes"], -point["psnr"])):
        curve = found.setdefault(point["codec"], [])
        if not curve or point["psnr"] > curve[-1][1]:
            curve.append((point["bytes"], point["psnr"]))
    return found


def bytes_at(curve: Sequence[tuple[float, float]], level: float) -> float | None:
    """Bytes at a PSNR, straight between the points beside it; None outside them."""
    if not curve[0][1] <= level <= curve[-1][1] < 100:
        return None
    sizes, decibels = zip(*curve, strict=True)
    return float(np.interp(level, decibels, sizes))


def _drawing() -> Callable[..., Any]:
    """Matplotlib's figure, which is asked for before anything is measured."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "the plot needs matplotlib: pip install -c constraints.txt -e '.[report]'"
        ) from None
    figure_of: Callable[..., Any] = Figure
    return figure_of


def _plot(points: Sequence[dict[str, Any]], figure_of: Callable[..., Any]) -> bytes:
    """PSNR over bytes, a curve a codec, as PNG."""
    figure = figure_of(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves(points).items()):
        shown = [(size, level) for size, level in curve if level < 100]
        if not shown:
            continue
        is_ours = name == "learned codec"
        axes.plot(
            *zip(*shown, strict=True),
            marker="o",
            markersize=4,
            linewidth=2.5 if is_ours else 1.2,
            color="black" if is_ours else f"C{number % 10}",
            label=name,
        )
    axes.set_xscale("log")
    ticks = [n for n in (2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.set_xlabel("bytes an image, file headers included")
    axes.set_ylabel("PSNR, dB")
    axes.grid(True, color="0.9")
    axes.legend(fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
