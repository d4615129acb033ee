"""Evaluates a checkpoint on the images that the model never saw, beside its floors."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from aelab.apps.evaluation.baselines import (
    BASELINES,
    Baseline,
    code_baselines,
    is_installed,
)
from aelab.apps.evaluation.levels import Comparison, compare_levels, read_training
from aelab.apps.evaluation.measure import (
    EvaluationStep,
    Measured,
    build_evaluation_step,
    means,
    measure,
    spread,
)
from aelab.apps.evaluation.pictures import write_pictures
from aelab.config import Config
from aelab.data.pipeline import image_error
from aelab.data.sources import Source, load_split, with_data_dir
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.system.files import write_bytes

_NUM_WORST = 10


@contextlib.contextmanager
def _naming_bad_pictures() -> Iterator[None]:
    """Makes a `UsageError` of a picture that can't be read."""
    try:
        yield
    except tf.errors.OpError as error:
        if reason := image_error(error):
            raise UsageError(reason) from None
        raise


@_naming_bad_pictures()
def evaluate_run(
    run_dir: str,
    checkpoint: str = "best",
    data_dir: str = "",
    noise_stddevs: Sequence[float] = (),
    floors: bool = True,
) -> dict[str, Any]:
    """Evaluates a run's checkpoint; writes `evaluation.json` and pictures.

    Args:
      run_dir: the run.
      checkpoint: `best` or `latest`.
      data_dir: where the run's data files are now, if they were moved.
      noise_stddevs: further levels of noise, above 0, for a model with Gaussian noise.
      floors: whether to compute what the model must beat.

    Returns:
      What was written: checkpoint, step; of all images what `_overall` gives; of
      as many as floors can take what `compare_levels` gives; `missing`, the libraries
      that were not there; `unlearned`, the floors that are left out because there is
      one training image alone; and `pictures`, the files that were written.

    Raises:
      UsageError: no such run or checkpoint, or the data can't be read or do not fit.
    """
    run = RunDirectory(run_dir)
    config, model, image_shape, step = load_trained(run, checkpoint)
    config = with_data_dir(config, data_dir)
    source = _load(config, "eval", image_shape)
    judge = build_evaluation_step(model, config)
    whole = measure(judge, config, source, keep_worst=_NUM_WORST)
    result: dict[str, Any] = {"checkpoint": checkpoint, "step": step}
    result |= _overall(whole, source, run)
    wanted = _floors(config, result["input"]) if floors else {}
    contest, left_out = _contest(judge, config, source, wanted)
    result |= compare_levels(contest, config, noise_stddevs) | left_out
    result["pictures"] = write_pictures(run.path, whole.images, result)
    write_bytes(run.evaluation_json, (json.dumps(result, indent=2) + "\n").encode())
    return result


def _overall(whole: Measured, source: Source, run: RunDirectory) -> dict[str, Any]:
    """The figures of all evaluation images.

    Returns:
      `examples`, `data` (the images' fingerprint, and whether they are those that the
      run was evaluated on), the model's `metrics`, those of its `input`, the `spread`
      of the PSNR of both, and the `worst` images: position in the set and PSNR.
    """
    worst = zip(whole.images.position, whole.images.psnr, strict=True)
    return {
        "examples": len(source),
        "data": {
            "fingerprint": source.fingerprint,
            "as_in_training": source.fingerprint == run.read_data().get("eval"),
        },
        "metrics": means(whole.output),
        "input": means(whole.input),
        "spread": {"input": spread(whole.input), "output": spread(whole.output)},
        "worst": [{"image": int(i), "psnr": float(psnr)} for i, psnr in worst],
    }


def _floors(config: Config, of_input: Mapping[str, float]) -> Mapping[str, Baseline]:
    """What a model must beat: as a denoiser, or as a code if its input is clean.

    The code of `conv` has more numbers than the image, so nothing is asked of it.
    """
    if of_input["mse"] > 0:
        return BASELINES
    return code_baselines(config.encoding_dim) if config.model == "dense" else {}


def _contest(
    judge: EvaluationStep,
    config: Config,
    source: Source,
    wanted: Mapping[str, Baseline],
) -> tuple[Comparison, dict[str, list[str]]]:
    """Model and floors, as far as they can take part, and `missing`, `unlearned`."""
    found = {name: f for name, f in wanted.items() if is_installed(f.library)}
    training = _load_training(config, source.image_shape) if found else None
    is_single = training is not None and len(training) == 1
    unlearned = [name for name in found if is_single and found[name].learns]
    used = {name: floor for name, floor in found.items() if name not in unlearned}
    missing = sorted({wanted[name].library for name in wanted.keys() - found})
    contest = Comparison(judge, used, source, training)
    return contest, {"missing": missing, "unlearned": unlearned}


def _load(config: Config, split: str, image_shape: tuple[int, int, int]) -> Source:
    """The images of a split, of the shape that the model takes."""
    source = load_split(config, split)
    if source.image_shape != image_shape:
        raise UsageError(
            f"the images of {config.data_dir or config.dataset} are "
            f"{source.image_shape}, and those of the run {image_shape} "
            "(height, width, channels)"
        )
    return source


def _load_training(config: Config, image_shape: tuple[int, int, int]) -> np.ndarray:
    """The images that floors learn from."""
    try:
        return read_training(_load(config, "train", image_shape), config)
    except UsageError as error:
        raise UsageError(
            f"{error}; floors learn from training images, and --floors=false does "
            "without floors"
        ) from None
