"""Evaluates a checkpoint on held-out images, next to simple baselines."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from aelab.apps.evaluation import baselines as methods
from aelab.apps.evaluation.baselines import Baseline
from aelab.apps.evaluation.levels import Comparison, compare_levels, read_training
from aelab.apps.evaluation.measure import build_evaluation_step, means, measure, spread
from aelab.apps.evaluation.pictures import write_pictures
from aelab.apps.evaluation.result import EvaluatedData, Evaluation
from aelab.config import Config
from aelab.data.pipeline import image_error
from aelab.data.sources import Source, load_split, with_data_dir
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.system.files import write_bytes

_NUM_WORST = 10


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
) -> Evaluation:
    """Evaluates a run's checkpoint; writes `evaluation.json` and pictures.

    `noise_stddevs` are further levels of noise, above 0, for a model with Gaussian
    noise. `data_dir` is the folder of the run's data files, if they were moved. See
    `load_trained` for `checkpoint` and `model`. Returns what `evaluation.json` holds.

    Raises:
      UsageError: no such run or checkpoint, or the data can't be read or do not fit.
    """
    run = RunDirectory(run_dir)
    config, autoencoder, image_shape, step = load_trained(run, checkpoint, model)
    config = with_data_dir(config, data_dir)
    source = _load(config, "eval", image_shape)
    step_function = build_evaluation_step(autoencoder, config)
    measured = measure(step_function, config, source, keep_worst=_NUM_WORST)
    images, input_metrics = measured.images, means(measured.input)
    wanted: Mapping[str, Baseline] = {}
    if baselines:
        is_clean = input_metrics["mse"] == 0
        code_shape = autoencoder.decoder.input_shape
        wanted = select_baselines(is_clean, code_shape, image_shape)
    # A library that is missing, or a single training image, rules out some of them.
    installed = {n: b for n, b in wanted.items() if methods.is_installed(b.library)}
    training = _load_training(config, image_shape) if installed else None
    is_single = training is not None and len(training) == 1
    unlearned = [name for name, b in installed.items() if is_single and b.learns]
    usable = {name: b for name, b in installed.items() if name not in unlearned}
    comparison = Comparison(step_function, usable, source, training)
    trained, sweep = compare_levels(comparison, config, noise_stddevs)
    worst = zip(images.position, images.psnr, strict=True)
    as_in_training = source.fingerprint == run.read_data().get("eval")
    result = Evaluation(
        checkpoint,
        step,
        len(source),
        EvaluatedData(source.fingerprint, as_in_training),
        metrics=means(measured.output),
        input=input_metrics,
        spread={"input": spread(measured.input), "output": spread(measured.output)},
        worst=[{"image": int(place), "psnr": float(psnr)} for place, psnr in worst],
        trained=trained,
        sweep=sweep,
        missing=sorted({wanted[name].library for name in wanted.keys() - installed}),
        unlearned=unlearned,
        pictures=write_pictures(run.path, images, trained, sweep),
    )
    write_bytes(run.evaluation_json, result.to_json().encode())
    return result


def select_baselines(
    is_clean: bool,
    code_shape: tuple[int, ...] | list[tuple[int, ...]],
    image_shape: tuple[int, int, int],
) -> Mapping[str, Baseline]:
    """The baselines of a denoiser, or of a code if the input is clean.

    A code of as many numbers as the image has none, and neither has one of several
    tensors, whose shapes are a list. The image's are (height, width, channels).
    """
    if not is_clean:
        return methods.BASELINES
    if isinstance(code_shape, list):
        return {}
    size = math.prod(code_shape[1:])
    return methods.code_baselines(size) if size < math.prod(image_shape) else {}


def _load(config: Config, split: str, image_shape: tuple[int, int, int]) -> Source:
    """The images of a split, in the shape that the model takes."""
    source = load_split(config, split)
    if source.image_shape != image_shape:
        raise UsageError(
            f"the images of {config.data_dir or config.dataset} are "
            f"{source.image_shape}, but the run's images are {image_shape} "
            "(height, width, channels)"
        )
    return source


def _load_training(config: Config, image_shape: tuple[int, int, int]) -> np.ndarray:
    """The images that baselines learn from."""
    try:
        return read_training(_load(config, "train", image_shape), config)
    except UsageError as error:
        raise UsageError(
            f"{error}; baselines learn from training images, and --floors=false skips "
            "the baselines"
        ) from None
