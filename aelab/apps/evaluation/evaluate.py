"""Evaluates a checkpoint on held-out images, next to simple baselines."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aelab.apps.evaluation import baselines as methods
from aelab.apps.evaluation.baselines import Baseline
from aelab.apps.evaluation.levels import Comparison, compare_levels, read_training
from aelab.apps.evaluation.measure import (
    Images,
    build_evaluation_step,
    means,
    measure,
    spread,
)
from aelab.apps.evaluation.pictures import write_pictures
from aelab.apps.evaluation.result import EvaluatedData, Evaluation
from aelab.apps.evaluation.table import table
from aelab.config import Config
from aelab.data.reading import image_error
from aelab.data.sources import (
    PictureSource,
    Source,
    load_part,
    warn_of_copies,
    with_data_dir,
)
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import TrainedModel, load_trained
from aelab.system.console import say, warn
from aelab.system.files import NOT_WRITABLE, write_bytes

_NUM_WORST = 10


class UsableBaselines(NamedTuple):
    """The baselines that can run here, their training images, and what is left out."""

    baselines: Mapping[str, Baseline]
    training: np.ndarray | None
    missing: list[str]  # see `Evaluation`
    unlearned: list[str]


@contextlib.contextmanager
def _reporting_bad_pictures() -> Iterator[None]:
    """Raises `UsageError` for a picture that can't be read."""
    try:
        yield
    except tf.errors.OpError as error:
        if reason := image_error(error):
            raise UsageError(reason) from None
        raise


@_reporting_bad_pictures()
def evaluate_run(
    run_dir: str,
    checkpoint: str = "best",
    data_dir: str = "",
    noise_stddevs: Sequence[float] = (),
    baselines: bool = True,
    model: str = "",
    split: str = "test",
) -> Evaluation:
    """Evaluates a run's checkpoint; writes `evaluation.json` and pictures.

    `split` is the part of the data set, `test` or `validation`. A warning says that the
    run chose its checkpoint on this part.

    `noise_stddevs` are further levels of noise, above 0, for a model with Gaussian
    noise. A run of pictures is evaluated on squares from their centers; see
    `evaluate_pictures` for whole ones. See `load_trained` and `with_data_dir` for the
    other arguments. The result of a run that may only be read is not kept, which a
    warning says.

    Raises:
      UsageError: no such run or checkpoint, or the data can't be read or do not fit.
      OSError: the disk is full or fails.
    """
    run = RunDirectory(run_dir)
    loaded = load_trained(run, checkpoint, model)
    config = with_data_dir(loaded.config, data_dir)
    config = dataclasses.replace(config, whole_pictures=False)
    if not config.has_clean_images:
        raise UsageError(
            "the run's images are noisy themselves, so there is nothing to compare "
            "with: evaluate it with --pictures or --pairs"
        )
    _warn_if_chosen(config, split, checkpoint)
    source = _load(config, split, loaded.image_shape)
    _warn_of_copies(source, config, split)
    model_step = build_evaluation_step(loaded.autoencoder, config)
    worst, input, output = measure(model_step, config, source, keep_worst=_NUM_WORST)
    usable = UsableBaselines({}, None, [], [])
    if baselines:
        usable = _usable_baselines(loaded, config, is_clean=not input["mse"].any())
    comparison = Comparison(model_step, source, usable.baselines, usable.training)
    trained, sweep = compare_levels(comparison, config, noise_stddevs)
    result = Evaluation(
        checkpoint,
        loaded.step,
        split,
        len(source),
        _describe(source, split, config, run),
        metrics=means(output),
        input=means(input),
        spread={"input": spread(input), "output": spread(output)},
        worst=_describe_worst(worst),
        trained=trained,
        sweep=sweep,
        missing=usable.missing,
        unlearned=usable.unlearned,
        pictures=[],
    )
    return _keep(result, run, worst)


def _warn_if_chosen(config: Config, split: str, checkpoint: str) -> None:
    """Warns if the run chose this checkpoint on the part that is reported."""
    if split == config.eval_part and checkpoint == "best":
        warn(
            f"the run chose its best checkpoint on these images, its {split} part, so "
            "the result is slightly too good"
        )


def _warn_of_copies(source: Source, config: Config, split: str) -> None:
    """Warns of copies of training pictures, unless training has done so."""
    if split != config.eval_part and isinstance(source, PictureSource):
        warn_of_copies(load_part(config, "train"), source)


def _describe_worst(worst: Images) -> list[dict[str, float]]:
    """The images of lowest PSNR in the result."""
    return [
        {"image": int(position), "psnr": float(psnr)}
        for position, psnr in zip(worst.position, worst.psnr, strict=True)
    ]


def _describe(
    source: Source, split: str, config: Config, run: RunDirectory
) -> EvaluatedData:
    """The description of the images in the result."""
    if split != config.eval_part:  # training did not read them
        is_own = config.data_dir == run.read_config().data_dir
        return EvaluatedData(source.fingerprint, None if is_own else False)
    known = run.read_data().get("eval")
    return EvaluatedData(source.fingerprint, source.fingerprint == known)


def _keep(result: Evaluation, run: RunDirectory, worst: Images) -> Evaluation:
    """Writes the pictures and `evaluation.json`; returns the result with their names.

    A run that may only be read is left as it is: a warning says so. If the disk fails,
    the table of the result is printed before the error is raised.
    """
    try:
        pictures = write_pictures(run.path, worst, result.trained, result.sweep)
        kept = dataclasses.replace(result, pictures=pictures)
        write_bytes(run.evaluation_json, kept.to_json().encode())
        return kept
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            say(table(result))
            raise
        warn(f"--run_dir={run.path} can't be written, the result is not kept: {error}")
        return result


def _usable_baselines(
    loaded: TrainedModel, config: Config, is_clean: bool
) -> UsableBaselines:
    """Selects baselines and reads the training images, if a baseline is installed."""
    code_shape, image_shape = loaded.autoencoder.decoder.input_shape, loaded.image_shape
    wanted = select_baselines(is_clean, code_shape, image_shape)
    usable = {n: b for n, b in wanted.items() if methods.is_installed(b.library)}
    missing = sorted({wanted[name].library for name in wanted.keys() - usable})
    if not usable:
        return UsableBaselines({}, None, missing, [])
    try:
        training = read_training(_load(config, "train", image_shape), config)
    except UsageError as error:
        raise UsageError(
            f"{error}; baselines learn from training images, and --floors=false skips "
            "the baselines"
        ) from None
    is_single = len(training) == 1
    unlearned = [name for name, b in usable.items() if is_single and b.learns]
    usable = {name: b for name, b in usable.items() if name not in unlearned}
    return UsableBaselines(usable, training, missing, unlearned)


def select_baselines(
    is_clean: bool,
    code_shape: tuple[int, ...] | list[tuple[int, ...]],
    image_shape: tuple[int, int, int],
) -> Mapping[str, Baseline]:
    """The baselines for a denoiser, or for a code if the input is clean.

    There are none for a code of as many numbers as the image or more, and none for a
    code of several tensors, whose shapes are a list. `code_shape` begins with the
    number of images; `image_shape` is (height, width, channels).
    """
    if not is_clean:
        return methods.BASELINES
    if isinstance(code_shape, list):
        return {}
    number = math.prod(code_shape[1:])
    if number >= math.prod(image_shape):
        return {}
    restore = functools.partial(methods.principal_components, number=number)
    return {"principal_components": Baseline(restore, "sklearn", learns=True)}


def _load(config: Config, split: str, image_shape: tuple[int, int, int]) -> Source:
    """The images of a part, in the shape that the model takes."""
    source = load_part(config, split)
    if source.image_shape != image_shape:
        raise UsageError(
            f"the images of {config.data_dir or config.dataset} are "
            f"{source.image_shape}, but the run's images are {image_shape} "
            "(height, width, channels)"
        )
    return source
