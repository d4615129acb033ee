"""The trained model of a run."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from aelab.config import Config
from aelab.errors import UsageError
from aelab.models import Autoencoder, build_model
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory

AVERAGES = "average"  # the group of a checkpoint that holds averaged weights


class TrainedModel(NamedTuple):
    """A model with the weights of a checkpoint.

    Attributes:
      config: the configuration of the run.
      autoencoder: the model and its parts.
      image_shape: (height, width, channels) of the run's images.
      step: the training step of the weights.
    """

    config: Config
    autoencoder: Autoencoder
    image_shape: tuple[int, int, int]
    step: int


def load_trained(
    run: RunDirectory,
    checkpoint: str,
    model: str = "",
    stock_layers: bool = False,
    any_size: bool = False,
) -> TrainedModel:
    """Builds a run's model with the weights of a checkpoint.

    Args:
      run: the run.
      checkpoint: `best` or `latest`.
      model: the run's `--model`, if it is not built in: see `RunDirectory.check_model`.
      stock_layers: True to use only Keras' own layers, which load without aelab, in
        float32 whatever the run's precision.
      any_size: True to build the model for images of any size, if it has a
        `size_multiple`, and not only for the run's image size.

    Raises:
      UsageError: there is no run or no checkpoint, the checkpoint is damaged or belongs
        to another model, or `model` is missing or another one.
      OSError: the checkpoint can't be read.
    """
    folder = run.checkpoints(checkpoint)
    run.check_model(model)
    newest = checkpoints.load_newest(folder)
    if newest is None:
        raise UsageError(
            f"--run_dir={run.path} has no {checkpoint} checkpoint yet, in {folder}"
        )
    path, arrays = newest
    config, image_shape = run.read_config(), run.read_image_shape()
    return build_trained(config, image_shape, path, arrays, stock_layers, any_size)


def build_trained(
    config: Config,
    image_shape: tuple[int, int, int],
    path: str,
    arrays: Mapping[str, np.ndarray],
    stock_layers: bool = False,
    any_size: bool = False,
) -> TrainedModel:
    """Builds a model with the weights in `arrays`, which were read from `path`.

    They are the averaged weights, if the run has `weight_average`.

    Raises:
      UsageError: the arrays belong to another model.
    """
    if stock_layers:
        config = dataclasses.replace(config, stock_layers=True, precision="float32")
    autoencoder = build_model(config, image_shape)
    if any_size and autoencoder.size_multiple:
        autoencoder = build_model(config, (None, None, image_shape[2]))
    group = AVERAGES if config.weight_average else "model"
    for name, variable in autoencoder.named_variables().items():
        array = arrays.get(f"{group}/{name}")
        if array is None or array.shape != tuple(variable.shape):
            raise UsageError(
                f"{path} is of another model: {name} is missing or has another shape"
            )
        variable.assign(array)
    if "step" not in arrays or arrays["step"].shape:
        raise UsageError(f"{path} does not have the step at which it was saved")
    return TrainedModel(config, autoencoder, image_shape, int(arrays["step"]))
