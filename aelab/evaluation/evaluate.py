"""Evaluates a checkpoint on the images that the model never saw."""

import dataclasses
import json
import os
from typing import Any

from aelab.config import Config
from aelab.errors import UsageError
from aelab.pipeline import make_eval_dataset, num_eval_batches
from aelab.run_directory import RunDirectory
from aelab.sources import load_split
from aelab.steps import build_evaluate, image_metrics, model_metrics
from aelab.trained import load_trained
from aelab.writing import write_bytes

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
      What was written: checkpoint, step, examples, `data` (the images' fingerprint, and
      whether they are those that the run was evaluated on), the model's `metrics`, and
      those of its uncorrected `input`, the floor that a denoiser must beat.

    Raises:
      UsageError: no such run or checkpoint, or the data can't be read or do not fit.
    """
    run = RunDirectory(run_dir)
    config, model, image_shape, step = load_trained(run, checkpoint)
    if data_dir:
        config = _moved(config, data_dir)
    source = load_split(config, "eval")
    if source.image_shape != image_shape:
        raise UsageError(
            f"the images of {config.data_dir or config.dataset} are "
            f"{source.image_shape}, and those of the run {image_shape} "
            "(height, width, channels)"
        )
    dataset = make_eval_dataset(source, config)
    num_batches = num_eval_batches(source, config)
    evaluate_model = build_evaluate(model_metrics(model, config))
    evaluate_input = build_evaluate(lambda x, clean: image_metrics(clean, x))
    result = {
        "checkpoint": checkpoint,
        "step": step,
        "examples": len(source),
        "data": {
            "fingerprint": source.fingerprint,
            "as_in_training": source.fingerprint == run.read_data().get("eval"),
        },
        "metrics": evaluate_model(dataset, num_batches),
        "input": evaluate_input(dataset, num_batches),
    }
    write_bytes(run.evaluation_json, (json.dumps(result, indent=2) + "\n").encode())
    return result


def _moved(config: Config, data_dir: str) -> Config:
    """The configuration with its data in another folder."""
    if not config.data_dir:
        raise UsageError(
            f"--data_dir={data_dir} contradicts the run's "
            f"--dataset={config.dataset}, which reads no folder"
        )
    return dataclasses.replace(config, data_dir=os.path.abspath(data_dir))


def table(result: dict[str, Any]) -> str:
    """The result of `evaluate_run` as a table for people."""
    lines = [
        f"{result['checkpoint']} checkpoint, step {result['step']}, "
        f"{result['examples']:,} images that the model never saw",
    ]
    if not result["data"]["as_in_training"]:
        lines.append("They are not the images that the run was evaluated on.")
    lines += ["", f"{'':<8}{'PSNR, dB':>10}{'SSIM':>10}{'MSE':>10}{'BCE':>10}"]
    for row, name in (("input", "input"), ("output", "metrics")):
        psnr, *others = (result[name][column] for column in _COLUMNS)
        cells = "".join(f"{figure:>10.4f}" for figure in others)
        lines.append(f"{row:<8}{psnr:>10.2f}{cells}")
    if result["input"]["mse"] == 0:
        lines.append(
            "The input is the clean image itself: there is no noise to take out."
        )
    return "\n".join(lines)
