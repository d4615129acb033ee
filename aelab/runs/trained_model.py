"""The trained model of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aelab.config import Config
from aelab.errors import UsageError
from aelab.models import SIZE_MULTIPLES, build_model
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory


class TrainedModel(NamedTuple):
    """A model with the weights of a checkpoint.

    Attributes:
      config: what it was trained by.
      model: the Keras model.
      image_shape: (height, width, channels) of the run's images.
      step: how many training steps its weights have behind them.
    """

    config: Config
    model: Any
    image_shape: tuple[int, int, int]
    step: int


def load_trained(
    run: RunDirectory,
    checkpoint: str,
    stock_layers: bool = False,
    any_size: bool = False,
) -> TrainedModel:
    """Builds a run's model and gives it the weights of a checkpoint.

    Args:
      run: the run.
      checkpoint: `best` or `latest`.
      stock_layers: whether to build it of Keras' own layers alone, which open anywhere.
      any_size: whether to build it for images of any size, if it is one that can
        (`SIZE_MULTIPLES`), and not for those of the run's size alone.

    Raises:
      UsageError: no run, no checkpoint, a damaged one, or one of another model.
    """
    folder = run.checkpoints(checkpoint)
    run.read_config()  # says if it is no run at all
    found = checkpoints.load_newest(folder)
    if found is None:
        raise UsageError(
            f"--run_dir={run.path} has no {checkpoint} checkpoint yet, in {folder}"
        )
    path, arrays = found
    return build_trained(run, path, arrays, stock_layers, any_size)


def build_trained(
    run: RunDirectory,
    path: str,
    arrays: Mapping[str, np.ndarray],
    stock_layers: bool = False,
    any_size: bool = False,
    config: Config | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> TrainedModel:
    """Builds a run's model with the weights in `arrays`, which were read from `path`.

    `config` and `image_shape` describe the model; None means those of the run.

    Raises:
      UsageError: no run, or the arrays are of another model.
    """
    config = config or run.read_config()
    image_shape = image_shape or run.read_image_shape()
    if stock_layers:
        config = dataclasses.replace(config, stock_layers="true")
    is_open = any_size and config.model in SIZE_MULTIPLES
    shape = (None, None, image_shape[2]) if is_open else image_shape
    model = build_model(config, shape)
    for variable in model.variables:
        array = arrays.get(f"model/{variable.path}")
        if array is None or array.shape != tuple(variable.shape):
            raise UsageError(f"{path} is of another model: no fitting {variable.path}")
        variable.assign(array)
    if "step" not in arrays or arrays["step"].shape:
        raise UsageError(f"{path} does not say at which step it was saved")
    return TrainedModel(config, model, image_shape, int(arrays["step"]))
