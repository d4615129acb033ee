"""An evaluation on pictures as plain text."""

import textwrap

from aelab.apps.evaluation.picture_result import PictureEvaluation, PictureLevel
from aelab.metric_info import format_value, heading
from aelab.system.optional import install_command

TITLES = {
    "non_local_means": "NL means",
    "total_variation": "TV",
    "wavelets": "wavelets",
    "bm3d": "BM3D",
}
_WIDTH = 88
_PACKAGES = {"skimage": "scikit-image", "pywt": "PyWavelets", "scipy": "SciPy"}


def picture_table(result: PictureEvaluation) -> str:
    """The result of `evaluate_pictures` or `evaluate_pairs`."""
    head = (
        f"{result.folder}: {result.pictures} whole pictures, {result.checkpoint} "
        f"checkpoint, step {result.step}, {result.precision.replace('_', ' ')}"
    )
    if result.ensemble:
        head += "\nOutput: the mean over the eight flips and rotations of each picture."
    tables = [_table(result, metric) for metric in ("psnr", "ssim")]
    notes = [textwrap.fill(note, _WIDTH) for note in _notes(result)]
    return "\n\n".join([head, *tables, *(["\n".join(notes)] if notes else [])])


def _table(result: PictureEvaluation, metric: str) -> str:
    names = list(result.levels[0].baselines)
    titles = "".join(f"{TITLES[name]:>10}" for name in names)
    lines = [heading(metric), f"{'noise':<22}{'input':>9}{titles}{'output':>10}"]
    for level in result.levels:
        values = [level.baselines[name][metric] for name in names]
        values.append(getattr(level, metric))
        cells = "".join(f"{format_value(metric, value):>10}" for value in values)
        first = format_value(metric, getattr(level, f"input_{metric}"))
        lines.append(f"{_noise(level):<22}{first:>9}{cells}")
    return "\n".join(lines)


def _noise(level: PictureLevel) -> str:
    if level.stddev is None:
        return "as in the files"
    bytes_ = round(255 * level.stddev, 3)
    return f"{bytes_:g}/255{'' if level.clip else ', not clipped'}"


def _notes(result: PictureEvaluation) -> list[str]:
    notes = []
    if correlation := result.levels[0].correlation:
        notes.append(f"The noise is correlated: --noise_correlation={correlation:g}.")
    known = result.levels[0].stddev is not None
    if baselines := result.levels[0].baselines:
        others = [TITLES[n] for n in baselines if n != "total_variation"]
        if others:
            way = "known to" if known else "estimated by"
            notes.append(f"The level of the noise is {way} {', '.join(others)}.")
        notes.append("All baselines assume that all noise values are independent.")
    if "total_variation" in baselines:
        notes.append("TV has the best weight for each picture, which favors it.")
    if missing := [_PACKAGES[name] for name in result.missing if name in _PACKAGES]:
        packages = " and ".join(missing)
        notes.append(f"Some baselines are left out. To install {packages}:")
        notes.append(f"  {install_command('eval')}")
    return notes
