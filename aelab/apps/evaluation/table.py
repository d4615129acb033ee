"""What an evaluation found, as plain text for people."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

LABELS = {
    "input": "input",
    "blur": "Gaussian blur",
    "total_variation": "total variation",
    "linear": "linear estimator",
    "principal_components": "principal components",
    "output": "output",
}

_WIDTH = 88
_PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
_UNITS = {"psnr": " dB", "ssim": ""}
_DIGITS = {"psnr": 2, "ssim": 4}
_TITLES = {"psnr": "PSNR, dB", "ssim": "SSIM"}
_SHORT = {"blur": "blur", "total_variation": "TV", "linear": "linear"}


def table(result: dict[str, Any]) -> str:
    """The result of `evaluate_run` as a table, no wider than 88 columns."""
    trained = result["trained"]
    blocks = [_head(result), _main_table(result), _verdicts(result)]
    if result["sweep"]:
        stddev = trained["noise_stddev"]
        blocks += [_sweep_table(result["sweep"], stddev, m) for m in _TITLES]
    notes = [textwrap.fill(note, _WIDTH) for note in _notes(result)]
    return "\n\n".join([*blocks, "\n".join(notes)])


def _head(result: dict[str, Any]) -> str:
    text = (
        f"{result['checkpoint']} checkpoint, step {result['step']}, "
        f"{result['examples']:,} images"
    )
    if result["data"]["as_in_training"]:
        text += " that the model never saw"
    else:
        text += "; other ones than\nthe run was evaluated on, so it may have seen them"
    if result["input"]["mse"] > 0:
        text += f"\nInput: {result['trained']['corruption']}"
    return text


def _main_table(result: dict[str, Any]) -> str:
    """Input, floors and output, a row each, of the images as the run has them."""
    lines = [
        f"{'':<21}{'PSNR, dB':>9}{'median':>8}{'worst 1%':>10}"
        f"{'SSIM':>9}{'MSE':>9}{'BCE':>9}"
    ]
    rows = {
        "input": result["input"] | result["spread"]["input"],
        **result["trained"]["floors"],
        "output": result["metrics"] | result["spread"]["output"],
    }
    for name, row in rows.items():
        lines.append(
            f"{LABELS[name]:<21}{row['psnr']:>9.2f}{row['psnr_median']:>8.2f}"
            f"{row['psnr_worst_percent']:>10.2f}{row['ssim']:>9.4f}{row['mse']:>9.4f}"
            f"{row['bce']:>9.4f}{_setting(row)}"
        )
    return "\n".join(lines)


def _setting(row: Mapping[str, float]) -> str:
    """What was chosen for a floor."""
    for name in ("sigma", "weight"):
        if name in row:
            return f"  {name} {row[name]:g}"
    return f"  {row['components']} numbers" if "components" in row else ""


def _rivals(level: dict[str, Any], metric: str) -> dict[str, float]:
    """What the output must beat at a level, by name; a clean input is no rival."""
    rivals = {name: figures[metric] for name, figures in level["floors"].items()}
    if level["input"]["mse"] > 0:
        rivals["input"] = level["input"][metric]
    return rivals


def result_text(level: dict[str, Any], metric: str) -> str:
    """How the output stands to the best of its rivals.

    Args:
      level: what `compare_level` gave.
      metric: `psnr` or `ssim`.

    Returns:
      As "0.40 dB BELOW linear estimator"; empty if there is no rival.
    """
    rivals = _rivals(level, metric)
    if not rivals:
        return ""
    best = max(rivals, key=lambda name: rivals[name])
    lead = level["output"][metric] - rivals[best]
    # What is not a number beats nothing.
    word = "above" if lead >= 0 else "BELOW"
    return f"{abs(lead):.{_DIGITS[metric]}f}{_UNITS[metric]} {word} {LABELS[best]}"


def _verdicts(result: dict[str, Any]) -> str:
    """Whether the model beats its floors, in plain words."""
    trained = result["trained"]
    lines = []
    if result["input"]["mse"] == 0:
        lines.append(
            "The input is the clean image itself: there is no noise to take out."
        )
    for metric, title in _TITLES.items():
        if said := result_text(trained, metric):
            lines.append(f"{title.split(',')[0]} of the output: {said}.")
    return "\n".join(lines)


def _sweep_table(
    sweep: Sequence[dict[str, Any]], trained: float | None, metric: str
) -> str:
    """A row for each level of noise; * marks that of training."""
    floors = list(sweep[0]["floors"])
    head = "".join(f"{_SHORT[name]:>9}" for name in floors)
    lines = [
        f"{_TITLES[metric]}, by noise (* as trained)",
        f"{'noise':<9}{'input':>9}{head}{'output':>9}",
    ]
    for level in sweep:
        columns = [level["input"], *(level["floors"][n] for n in floors)]
        cells = [
            f"{c[metric]:>9.{_DIGITS[metric]}f}" for c in [*columns, level["output"]]
        ]
        mark = "*" if level["noise_stddev"] == trained else ""
        name = f"{level['noise_stddev']:g}{mark}"
        lines.append(
            f"{name:<9}{''.join(cells)}  {result_text(level, metric)}".rstrip()
        )
    return "\n".join(lines)


def _notes(result: dict[str, Any]) -> list[str]:
    """What the figures are of, and what there would be besides."""
    trained = result["trained"]
    notes = ["Worst 1%: the mean PSNR of the worst hundredth of the images."]
    if trained["images"] < result["examples"] and (
        trained["floors"] or result["sweep"]
    ):
        notes.append(
            f"Floors, sweep, and what is said above or below: of the first "
            f"{trained['images']:,} images."
        )
    if "blur" in trained["floors"]:
        notes.append(
            "Sigma (pixels) and weight: at each level the best for the first "
            f"{trained['search_images']:,} of the evaluated images, which favours "
            "the floor."
        )
    if "linear" in trained["floors"]:
        notes.append(
            "Linear estimator: least squares on principal components of "
            f"{trained['training_images']:,} noisy training images, as many as restore "
            "held-out ones best, at each level anew."
        )
    if "principal_components" in trained["floors"]:
        notes.append(
            f"Principal components: of {trained['training_images']:,} training images, "
            "as many as the code has numbers."
        )
    if result["unlearned"]:
        names = " and ".join(LABELS[name] for name in result["unlearned"])
        notes.append(f"Left out, as there is one training image alone: {names}.")
    if result["missing"]:
        names = " and ".join(_PACKAGES[name] for name in result["missing"])
        notes += [f"Some floors are left out; they need {names}:", _install("eval")]
    notes.append(f"Pictures in the run directory: {', '.join(result['pictures'])}.")
    if result["sweep"] and len(result["pictures"]) == 1:
        notes += ["The sweep is not drawn; it needs matplotlib:", _install("report")]
    return notes


def _install(extra: str) -> str:
    """A command, on a line of its own, for the folder that `make` has made ready."""
    return f"  .venv/bin/pip install -e '.[{extra}]'"
