"""Pictures of an evaluation: the worst images, and the PSNR over levels of noise."""

import contextlib
import io
import os
from collections.abc import Sequence

from aelab.apps.evaluation.baselines import is_installed
from aelab.apps.evaluation.measure import Images
from aelab.apps.evaluation.result import Level
from aelab.apps.evaluation.table import LABELS
from aelab.metric_info import heading
from aelab.summaries.panels import draw_panel, encode_png
from aelab.system.files import write_bytes

WORST = "evaluation-worst.png"
SWEEP = "evaluation-sweep.png"

_INCHES = (6.4, 4.4)
_DOTS_PER_INCH = 120


def write_pictures(
    folder: str, worst: Images, trained: Level, sweep: Sequence[Level]
) -> list[str]:
    """Writes `evaluation-worst.png`, and `evaluation-sweep.png` if there is a sweep.

    The rows of the first are clean, input and output. The second needs matplotlib. The
    sweep of an earlier evaluation is removed. Returns the names of the written files.
    """
    panel = draw_panel([worst.clean, worst.corrupted, worst.output])
    contents = {WORST: encode_png(panel)}
    if sweep and is_installed("matplotlib"):
        contents[SWEEP] = draw_sweep(sweep, trained.noise_stddev)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, SWEEP))
    for name, content in contents.items():
        write_bytes(os.path.join(folder, name), content)
    return list(contents)


def draw_sweep(sweep: Sequence[Level], trained: float | None) -> bytes:
    """A PNG of the PSNR over the noise, with curves for model, baselines and input.

    A line marks the level of training, `trained`, which is None if there were several.
    """
    from matplotlib.figure import Figure

    # The level of a sweep is never None.
    levels = sorted(sweep, key=lambda level: level.noise_stddev or 0.0)
    stddevs = [level.noise_stddev or 0.0 for level in levels]
    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    curves = {"output": [level.output for level in levels]}
    curves |= {n: [level.baselines[n] for level in levels] for n in levels[0].baselines}
    curves["input"] = [level.input for level in levels]
    for name, metrics in curves.items():
        psnr = [values["psnr"] for values in metrics]
        width, label = (2.5, "model") if name == "output" else (1.2, LABELS[name])
        axes.plot(stddevs, psnr, marker="o", markersize=3, linewidth=width, label=label)
    if trained is not None:
        axes.axvline(trained, color="gray", linestyle=":", label="trained with")
    axes.set_xlabel("standard deviation of the noise (pixels in [0, 1])")
    axes.set_ylabel(f"{heading('psnr')}, mean of {levels[0].images:,} images")
    axes.grid(alpha=0.3)
    axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DOTS_PER_INCH)
    return png.getvalue()
