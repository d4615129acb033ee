"""An evaluation as plain text."""

import textwrap

from aelab.apps.evaluation.result import Evaluation, Level, Means
from aelab.metric_info import METRICS, format_value, heading
from aelab.system.optional import install_command

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
_SHORT = {"blur": "blur", "total_variation": "TV", "linear": "linear"}
_NOT_COMPARED = ("mse", "bce")  # the PSNR compares the MSE already


def table(result: Evaluation) -> str:
    """The result of `evaluate_run`; more than four metrics need over 88 columns."""
    blocks = [_head(result), _main_table(result), _results(result.trained)]
    if result.sweep:
        for metric in _compared(result.metrics):
            blocks.append(_sweep_table(result, metric))
    notes = [textwrap.fill(note, _WIDTH) for note in _notes(result)]
    return "\n\n".join([*blocks, "\n".join(notes)])


def _compared(values: Means) -> list[str]:
    """The metrics in `values` by which output and baselines are compared."""
    names = [name for name, info in METRICS.items() if info.function]
    return [name for name in names if name in values and name not in _NOT_COMPARED]


def _head(result: Evaluation) -> str:
    images = f"{result.examples:,} {result.split} images"
    text = f"{result.checkpoint} checkpoint, step {result.step}, {images}"
    if result.data.as_in_training is not False:
        text += " that the model never saw"
    else:
        text += "\nThe run was evaluated on other images, so it may have seen these."
    if result.input["mse"] > 0:
        text += f"\nInput: {result.trained.corruption}"
    return text


def _main_table(result: Evaluation) -> str:
    """A row each for input, baselines and output, corrupted as in training."""
    columns = []  # (key of a row, metric whose digits it has, title, width)
    others = [name for name in _NOT_COMPARED if name in result.metrics]
    for name in (*_compared(result.metrics), *others):
        title = heading(name)
        columns.append((name, name, title, max(9, len(title) + 1)))
        if name == "psnr":
            columns.append(("psnr_median", name, "median", 8))
            columns.append(("psnr_worst_percent", name, "worst 1%", 10))
    rows = {
        "input": result.input | result.spread["input"],
        **result.trained.baselines,
        "output": result.metrics | result.spread["output"],
    }
    titles = "".join(f"{title:>{width}}" for *_, title, width in columns)
    lines = [f"{'':<21}{titles}"]
    for name, row in rows.items():
        line = f"{LABELS[name]:<21}"
        for key, metric, _, width in columns:
            line += f"{format_value(metric, row[key]):>{width}}"
        # At most one setting was chosen for a baseline.
        line += "".join(f"  {n} {row[n]:g}" for n in ("sigma", "weight") if n in row)
        if "components" in row:
            line += f"  {row['components']} numbers"
        lines.append(line)
    return "\n".join(lines)


def result_text(level: Level, metric: str) -> str:
    """Compares the output with the best of the baselines and the corrupted input.

    For example "0.40 dB BELOW linear estimator", in capitals if the output is worse.
    NaN counts as worse. Empty if there is nothing to compare with.
    """
    others = {name: values[metric] for name, values in level.baselines.items()}
    if level.input["mse"] > 0:
        others["input"] = level.input[metric]
    if not others:
        return ""
    info = METRICS[metric]
    is_lower = info.better == "lower"
    sign, better, worse = (-1, "below", "ABOVE") if is_lower else (1, "above", "BELOW")
    best = max(others, key=lambda name: sign * others[name])
    lead = level.output[metric] - others[best]
    unit = f" {info.unit}" if info.unit else ""
    word = better if sign * lead >= 0 else worse
    return f"{format_value(metric, abs(lead))}{unit} {word} {LABELS[best]}"


def _results(trained: Level) -> str:
    """Sentences on whether the model beats its baselines."""
    lines = [
        f"{METRICS[metric].title} of the output: {text}."
        for metric in _compared(trained.output)
        if (text := result_text(trained, metric))
    ]
    if trained.input["mse"] == 0:
        lines.insert(0, "The input is the clean image: there is no noise to remove.")
    return "\n".join(lines)


def _sweep_table(result: Evaluation, metric: str) -> str:
    """A row for each level of noise; * marks the level of training."""
    titles = "".join(f"{_SHORT[name]:>9}" for name in result.sweep[0].baselines)
    lines = [
        f"{heading(metric)}, by noise (* as trained)",
        f"{'noise':<9}{'input':>9}{titles}{'output':>9}",
    ]
    for level in result.sweep:
        columns = [level.input, *level.baselines.values(), level.output]
        cells = "".join(f"{format_value(metric, c[metric]):>9}" for c in columns)
        mark = "*" if level.noise_stddev == result.trained.noise_stddev else ""
        name = f"{level.noise_stddev:.4g}{mark}"
        lines.append(f"{name:<9}{cells}  {result_text(level, metric)}".rstrip())
    return "\n".join(lines)


def _notes(result: Evaluation) -> list[str]:
    """Notes on which images the metrics cover and on what is left out."""
    trained = result.trained
    notes = ["Worst 1%: the mean PSNR of the worst hundredth of the images."]
    if trained.images < result.examples and trained.baselines:
        first = f"the first {trained.images:,} images"
        notes.append(f"Baselines and comparisons are of {first}.")
    if result.sweep and result.sweep[0].images < result.examples:
        notes.append(f"Noise levels: of the first {result.sweep[0].images:,} images.")
    if "blur" in trained.baselines:
        notes.append(
            "Sigma (pixels) and weight: at each level the best for the first "
            f"{trained.search_images:,} of the evaluated images, which favors the "
            "baseline."
        )
    if "linear" in trained.baselines:
        notes.append(
            "Linear estimator: least squares on principal components of "
            f"{trained.training_images:,} noisy training images, fitted at each level. "
            "The number of components is the best for held-out training images."
        )
    if "principal_components" in trained.baselines:
        notes.append(
            f"Principal components: of {trained.training_images:,} training images, "
            "as many as the code has numbers."
        )
    if result.unlearned:
        labels = " and ".join(LABELS[name] for name in result.unlearned)
        notes.append(f"Left out because there is only one training image: {labels}.")
    if result.missing:
        packages = " and ".join(_PACKAGES[name] for name in result.missing)
        notes.append(f"Some baselines are left out. To install {packages}:")
        notes.append(f"  {install_command('eval')}")
    if result.pictures:
        notes.append(f"Pictures in the run directory: {', '.join(result.pictures)}.")
    if result.sweep and len(result.pictures) == 1:
        notes.append("The sweep is not drawn. To install matplotlib:")
        notes.append(f"  {install_command('report')}")
    return notes
