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
      config: the configuration of the run.
      model: the Keras model.
      image_shape: (height, width, channels) of the run's images.
      step: the training step of the weights.
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
    """Builds a run's model with the weights of a checkpoint.

    Args:
      run: the run.
      checkpoint: `best` or `latest`.
      stock_layers: True to use only Keras's own layers, which load without aelab.
      any_size: True to build the model for images of any size, if it can take them
        (`SIZE_MULTIPLES`), and not only for the run's image size.

    Raises:
      UsageError: there is no run or no checkpoint, or the checkpoint is damaged or
        belongs to another model.
    """
    folder = run.checkpoints(checkpoint)
    run.read_config()  # raises UsageError if this is not a run
    newest = checkpoints.load_newest(folder)
    if newest is None:
        raise UsageError(
            f"--run_dir={run.path} has no {checkpoint} checkpoint yet, in {folder}"
        )
    path, arrays = newest
    return build_trained(run, path, arrays, stock_layers, any_size)


def build_trained(
    run: RunDirectory,
    path: str,
    arrays: Mapping[str, np.ndarray],
    stock_layers: bool = False,
    any_size: bool = False,
) -> TrainedModel:
    """Builds a run's model with the weights in `arrays`, which were read from `path`.

    Raises:
      UsageError: there is no run, or the arrays belong to another model.
    """
    config, image_shape = run.read_config(), run.read_image_shape()
    if stock_layers:
        config = dataclasses.replace(config, stock_layers="true")
    is_open = any_size and config.model in SIZE_MULTIPLES
    shape = (None, None, image_shape[2]) if is_open else image_shape
    model = build_model(config, shape)
    for variable in model.variables:
        array = arrays.get(f"model/{variable.path}")
        if array is None or array.shape != tuple(variable.shape):
            raise UsageError(
                f"{path} is of another model: {variable.path} is missing or has "
                "another shape"
            )
        variable.assign(array)
    if "step" not in arrays or arrays["step"].shape:
        raise UsageError(f"{path} does not have the step at which it was saved")
    return TrainedModel(config, model, image_shape, int(arrays["step"]))
