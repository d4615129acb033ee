"""A run's model, in files that open without aelab."""

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.system.files import atomic_write, writing

# TensorFlow is imported where it is used: a bad name is answered without.
if TYPE_CHECKING:
    import tensorflow as tf

    from aelab.runs.trained_model import TrainedModel

_SUFFIX = ".keras"


def export(
    run_dir: str, output: str, checkpoint: str = "best", format: str = "keras"
) -> int:
    """Writes a run's model, of stock layers, whole or not at all.

    Args:
      run_dir: the run.
      output: what to write; the folder that it is in must be there.
      checkpoint: `best` or `latest`.
      format: `keras`, a `.keras` file, which replaces one that is there; or
        `saved_model`, a folder that TensorFlow and TensorFlow Serving load, in a place
        where there is nothing or an empty folder.

    Returns:
      The step of the exported weights.

    Raises:
      UsageError: `output` does not fit the format or can't be written, or what
        `load_trained` raises.
      OSError: the disk failed, or is full.
    """
    check_output(output, format)

    from aelab.runs.trained_model import load_trained

    folder, name = os.path.split(os.path.abspath(output))
    chosen = FORMATS[format]
    trained = load_trained(
        RunDirectory(run_dir), checkpoint, stock_layers=True, any_size=chosen.any_size
    )
    with (
        writing(f"--output={output}"),
        atomic_write(os.path.join(folder, name)) as aside,
    ):
        chosen.save(trained, aside)
    return trained.step


def check_output(output: str, format: str) -> None:
    """Checks, without TensorFlow, that `output` can be written in `format`.

    Raises:
      UsageError: the folder that it is in is not there, its name does not fit, or what
        is there can't be replaced.
    """
    folder = os.path.dirname(os.path.abspath(output))
    if not os.path.isdir(folder):
        raise UsageError(f"--output={output}: there is no folder {folder}")
    FORMATS[format].check(output)


def _check_keras(output: str) -> None:
    if not output.endswith(_SUFFIX):
        raise UsageError(
            f"--output={output} must end in {_SUFFIX}, unless it is with "
            "--format=saved_model"
        )
    if os.path.isdir(output):
        raise UsageError(f"--output={output} is a folder; a file is to be written")


def _save_keras(trained: "TrainedModel", path: str) -> None:
    """Writes a file that `keras.models.load_model` opens, for the run's image size."""
    import keras

    model = trained.model
    # Without what stands beside it, as the prior of a codec.
    keras.Model(model.input, model.output, name=model.name).save(path)


def _check_saved_model(output: str) -> None:
    if output.endswith(_SUFFIX):
        raise UsageError(
            f"--output={output} is the name of a file; --format=saved_model writes a "
            "folder"
        )
    if os.path.lexists(output) and not (os.path.isdir(output) and _is_empty(output)):
        raise UsageError(
            f"--output={output} is there already, and nothing is removed for "
            "--format=saved_model: give another name"
        )


def _is_empty(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _save_saved_model(trained: "TrainedModel", path: str) -> None:
    """Writes a folder that `tf.saved_model.load` opens.

    Its one signature, `serving_default`, takes `images`, float32 [n, H, W, C] in [0, 1]
    with any n and any H and W that the network can, and gives `output`, the same.
    """
    import tensorflow as tf

    images = tf.TensorSpec(trained.model.input_shape, tf.float32, name="images")

    @tf.function(input_signature=[images], autograph=False)
    def serve(images: "tf.Tensor") -> "dict[str, tf.Tensor]":
        return {"output": trained.model(images, training=False)}

    module = tf.Module()
    module.weights = [variable.value for variable in trained.model.variables]
    os.mkdir(path)
    try:
        tf.saved_model.save(module, path, signatures={"serving_default": serve})
    except tf.errors.OpError as error:  # the folder could be made, so the disk is full
        raise OSError(errno.EIO, error.message, path) from None


class _Format(NamedTuple):
    """How a model is written.

    Attributes:
      check: raises UsageError unless the output's name fits, before anything is done.
      save: writes a trained model to a path where there is nothing.
      any_size: whether the model is to take images of any size, where it can.
    """

    check: Callable[[str], None]
    save: Callable[["TrainedModel", str], None]
    any_size: bool


FORMATS: dict[str, _Format] = {
    "keras": _Format(_check_keras, _save_keras, any_size=False),
    "saved_model": _Format(_check_saved_model, _save_saved_model, any_size=True),
}
