"""The trained model of a run, and its export."""

import os
from typing import Any, NamedTuple

from aelab import checkpoints
from aelab.config import Config
from aelab.errors import UsageError
from aelab.models import build_model
from aelab.run_directory import RunDirectory
from aelab.writing import DISK_ERRORS, written_aside

_SUFFIX = ".keras"


class Trained(NamedTuple):
    """A model with the weights of a checkpoint.

    Attributes:
      config: what it was trained by.
      model: the Keras model.
      image_shape: (height, width, channels) of its images.
      step: how many training steps its weights have behind them.
    """

    config: Config
    model: Any
    image_shape: tuple[int, int, int]
    step: int


def load_trained(run: RunDirectory, checkpoint: str) -> Trained:
    """Builds a run's model and gives it the weights of a checkpoint.

    Args:
      run: the run.
      checkpoint: `best` or `latest`.

    Raises:
      UsageError: no run, no checkpoint, a damaged one, or one of another model.
    """
    config, image_shape = run.read_config(), run.read_image_shape()
    folder = run.checkpoints(checkpoint)
    found = checkpoints.load_newest(folder)
    if found is None:
        raise UsageError(
            f"--run_dir={run.path} has no {checkpoint} checkpoint yet, in {folder}"
        )
    path, arrays = found
    model = build_model(config, image_shape)
    for variable in model.variables:
        array = arrays.get(f"model/{variable.path}")
        if array is None or array.shape != tuple(variable.shape):
            raise UsageError(f"{path} is of another model: no fitting {variable.path}")
        variable.assign(array)
    if "step" not in arrays or arrays["step"].shape:
        raise UsageError(f"{path} does not say at which step it was saved")
    return Trained(config, model, image_shape, int(arrays["step"]))


def export(run_dir: str, output: str, checkpoint: str = "best") -> int:
    """Writes a run's model as a `.keras` file of stock layers.

    Args:
      run_dir: the run.
      output: the file, which is replaced if it is there; its folder must be.
      checkpoint: `best` or `latest`.

    Returns:
      The step of the exported weights.

    Raises:
      UsageError: `output` has another ending or can't be written, or what
        `load_trained` raises.
    """
    folder, name = os.path.split(os.path.abspath(output))
    if not name.endswith(_SUFFIX):
        raise UsageError(f"--output={output} must end in {_SUFFIX}")
    if not os.path.isdir(folder):
        raise UsageError(f"--output={output}: there is no folder {folder}")
    if os.path.isdir(output):
        raise UsageError(f"--output={output} is a folder; a file is to be written")
    trained = load_trained(RunDirectory(run_dir), checkpoint)
    try:
        with written_aside(os.path.join(folder, name)) as aside:
            trained.model.save(aside)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        raise UsageError(f"--output={output} can't be written: {error}") from None
    return trained.step
