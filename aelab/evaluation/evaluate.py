"""Evaluates a checkpoint on the images that the model never saw."""

import dataclasses
import json
import os
from typing import Any

from aelab.config import Config
from aelab.errors import UsageError
from aelab.pipeline import make_eval_dataset, num_eval_batches
from aelab.run_directory import RunDirectory, write_bytes
from aelab.sources import Source, load_splits
from aelab.steps import build_evaluate, image_metrics, model_metrics
from aelab.trained import load_trained

_COLUMNS = ("psnr", "ssim", "mse", "bce")


def evaluate_run(
    run_dir: str, checkpoint: str = "best", data_dir: str = ""
) -> dict[str, Any]:
    """Evaluates a run's checkpoint and writes `evaluation.json`.

    Args:
      run_dir: the run.
      checkpoint: `best` or `latest`.
      data_dir: where the run's data files are now, if they were moved.

    Returns:
      What was written: checkpoint, step, examples, the model's `metrics`, and those of
      its uncorrected `input`, the floor that a denoiser must beat.

    Raises:
      UsageError: no such run or checkpoint, or the data can't be read or do not fit.
    """
    run = RunDirectory(run_dir)
    config, model, image_shape, step = load_trained(run, checkpoint)
    if data_dir:
        if not config.data_dir:
            raise UsageError(
                f"--data_dir={data_dir} contradicts the run's "
                f"--dataset={config.dataset}, which reads no folder"
            )
        config = dataclasses.replace(config, data_dir=os.path.abspath(data_dir))
    source = load_splits(config).eval
    if source.image_shape != image_shape:
        raise UsageError(
            f"the images in {config.data_dir} are {source.image_shape}, and those of "
            f"the run {image_shape} (height, width, channels)"
        )
    result = {
        "checkpoint": checkpoint,
        "step": step,
        "examples": len(source),
        "metrics": _evaluate(config, source, model_metrics(model, config)),
        "input": _evaluate(config, source, image_metrics),
    }
    write_bytes(run.evaluation_json, (json.dumps(result, indent=2) + "\n").encode())
    return result


def _evaluate(config: Config, source: Source, example_metrics: Any) -> dict[str, float]:
    dataset = make_eval_dataset(source, config)
    return build_evaluate(example_metrics)(dataset, num_eval_batches(source, config))


def table(result: dict[str, Any]) -> str:
    """The result of `evaluate_run` as a table for people."""
    lines = [
        f"{result['checkpoint']} checkpoint, step {result['step']}, "
        f"{result['examples']:,} images that the model never saw",
        "",
        f"{'':<8}{'PSNR, dB':>10}{'SSIM':>10}{'MSE':>10}{'BCE':>10}",
    ]
    for row, name in (("input", "input"), ("output", "metrics")):
        figures = [result[name][column] for column in _COLUMNS]
        lines.append(
            f"{row:<8}{figures[0]:>10.2f}" + "".join(f"{f:>10.4f}" for f in figures[1:])
        )
    return "\n".join(lines)
