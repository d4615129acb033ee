"""Pictures of an evaluation: the worst images, and PSNR over noise."""

import contextlib
import io
import os
from collections.abc import Sequence
from typing import Any

from aelab.apps.evaluation.baselines import is_installed
from aelab.apps.evaluation.measure import Images
from aelab.apps.evaluation.table import LABELS
from aelab.summaries.panels import draw_panel, encode_png
from aelab.system.files import write_bytes

WORST = "evaluation-worst.png"
SWEEP = "evaluation-sweep.png"

_INCHES = (6.4, 4.4)
_DOTS_PER_INCH = 120


def write_pictures(folder: str, worst: Images, result: dict[str, Any]) -> list[str]:
    """Writes `evaluation-worst.png`, and `evaluation-sweep.png` if there is a sweep.

    The second needs matplotlib. A picture of an earlier evaluation does not stay.

    Args:
      folder: where to.
      worst: the images of the first: from the top clean, input, output.
      result: `trained` and `sweep`, see `compare_levels`.

    Returns:
      The names of the files that were written.

    Raises:
      OSError: a file can't be written.
    """
    contents = {
        WORST: encode_png(draw_panel([worst.clean, worst.corrupted, worst.output]))
    }
    if result["sweep"] and is_installed("matplotlib"):
        stddev = result["trained"]["noise_stddev"]
        contents[SWEEP] = draw_sweep(result["sweep"], stddev)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, SWEEP))
    for name, content in contents.items():
        write_bytes(os.path.join(folder, name), content)
    return list(contents)


def draw_sweep(sweep: Sequence[dict[str, Any]], trained: float | None) -> bytes:
    """PSNR over noise, a curve each for model, input and floors.

    Args:
      sweep: what `compare_level` gave for each level.
      trained: the level that the model was trained with, if one; a line marks it.

    Returns:
      A PNG file.
    """
    from matplotlib.figure import Figure

    levels = sorted(sweep, key=lambda level: level["noise_stddev"])
    stddevs = [level["noise_stddev"] for level in levels]
    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    curves = {"output": [level["output"] for level in levels]}
    curves |= {n: [level["floors"][n] for level in levels] for n in levels[0]["floors"]}
    curves["input"] = [level["input"] for level in levels]
    for name, figures in curves.items():
        psnr = [values["psnr"] for values in figures]
        width = 2.5 if name == "output" else 1.2
        label = "model" if name == "output" else LABELS[name]
        axes.plot(stddevs, psnr, marker="o", markersize=3, linewidth=width, label=label)
    if trained is not None:
        axes.axvline(trained, color="gray", linestyle=":", label="trained with")
    axes.set_xlabel("standard deviation of the noise (pixels in [0, 1])")
    axes.set_ylabel(f"PSNR, dB, mean of {levels[0]['images']:,} images")
    axes.grid(alpha=0.3)
    axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DOTS_PER_INCH)
    return png.getvalue()
