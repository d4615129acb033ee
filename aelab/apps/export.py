"""Exports a run's model to formats that load without aelab."""

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.system.files import atomic_write, writing
from aelab.system.outputs import check_output_file, check_outputs
from aelab.system.tensorflow_errors import reason

# TensorFlow is imported where it is used, so that a bad name is reported at once.
if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_SUFFIX = ".keras"
_SAVED_MODEL = "saved_model.pb"
_SAVED_MODEL_FILES = {_SAVED_MODEL, "fingerprint.pb", "assets", "variables"}


def export(
    run_dir: str,
    output: str,
    checkpoint: str = "best",
    format: str = "keras",
    model: str = "",
    overwrite: bool = False,
) -> int:
    """Writes a run's model, of stock layers in float32, completely or not at all.

    The parent folder of `output` must exist. The format `keras` is a `.keras` file, and
    `saved_model` is a folder for TensorFlow and TensorFlow Serving. A SavedModel takes
    images of any size that its layers allow, and so does a model that was trained with
    `whole_pictures`. Any other `.keras` file takes images of the run's size. What
    exists is replaced only with `overwrite`, and a folder only if it is empty or has
    only a SavedModel. See `load_trained` for `checkpoint` and `model`. Returns the step
    of the exported weights.

    Raises:
      UsageError: `check_output` or `load_trained` raises it.
      OSError: the disk is full or fails.
    """
    check_output(output, format, overwrite)

    from aelab.runs.trained_model import load_trained

    run, is_folder = RunDirectory(run_dir), format == "saved_model"
    any_size = is_folder or run.read_config().whole_pictures
    trained = load_trained(run, checkpoint, model, stock_layers=True, any_size=any_size)
    network = trained.autoencoder.model
    path = os.path.realpath(output) if is_folder else os.path.abspath(output)
    with (
        writing(f"--output={output}"),
        _old_model(path) as move_aside,
        atomic_write(path, is_folder=is_folder) as temporary,
    ):
        if is_folder:
            _save_saved_model(network, temporary)
            move_aside()
        else:
            _save_keras(network, temporary)
    return trained.step


@contextlib.contextmanager
def _old_model(path: str) -> Iterator[Callable[[], None]]:
    """Yields a function that renames the SavedModel at `path`, if there is one.

    At the end it is removed, or gets its name back if the new one can't be written.
    """
    aside = f"{path}.old-{secrets.token_hex(4)}"

    def move_aside() -> None:
        """Renames the old model."""
        if os.path.exists(os.path.join(path, _SAVED_MODEL)):
            os.rename(path, aside)

    try:
        yield move_aside
    except BaseException:
        if os.path.exists(aside):
            os.rename(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def check_output(output: str, format: str, overwrite: bool) -> None:
    """Checks, without TensorFlow, that `output` can be written in `format`.

    Raises:
      UsageError: its parent folder does not exist, its name does not fit the format, or
        it exists and can't be replaced.
    """
    if format == "keras":
        if not output.endswith(_SUFFIX):
            raise UsageError(
                f"--output={output} must end in {_SUFFIX}, unless it is a folder for "
                "--format=saved_model"
            )
    elif output.endswith(_SUFFIX):
        raise UsageError(
            f"--output={output} is the name of a file; --format=saved_model writes a "
            "folder"
        )
    elif not (path := os.path.abspath(output)).isprintable():
        raise UsageError(
            f"--output={path} is not UTF-8, and TensorFlow only reads and writes "
            "folders of --format=saved_model with names in UTF-8"
        )
    elif os.path.isdir(output) and not os.listdir(output):
        return
    elif os.path.isdir(output):
        names = {*os.listdir(output)}
        if _SAVED_MODEL not in names or names - _SAVED_MODEL_FILES:
            raise UsageError(
                f"--output={output} is a folder with other files: give another name"
            )
        check_outputs([output], overwrite)
        return
    elif os.path.lexists(output):
        raise UsageError(f"--output={output} is a file, and must be a new folder")
    check_output_file(output, "", overwrite)


def _save_keras(model: "keras.Model", path: str) -> None:
    """Writes a `.keras` file, for which Keras needs a temporary folder.

    Where there is none, or it is read-only, it is the folder of the file.
    """
    if not os.access(tempfile.gettempdir(), os.W_OK):
        tempfile.tempdir = os.path.dirname(path)
    model.save(path)


def _save_saved_model(model: "keras.Model", path: str) -> None:
    """Writes a folder for `tf.saved_model.load`.

    Its only signature, `serving_default`, takes `images`, float32 [n, H, W, C] with 1
    as white, with any n and with any H and W that the network supports. It returns
    `output` of the same shape and type. Noisy images may have values outside [0, 1],
    and so may the output of a model that is not bounded.
    """
    import tensorflow as tf

    images = tf.TensorSpec(model.input_shape, tf.float32, name="images")

    @tf.function(input_signature=[images], autograph=False)
    def serve(images: "tf.Tensor") -> "dict[str, tf.Tensor]":
        """The signature of the exported model."""
        return {"output": model(images, training=False)}

    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    try:
        tf.saved_model.save(module, path, signatures={"serving_default": serve})
    except tf.errors.OpError as error:  # the folder was created, so the disk is full
        raise OSError(errno.EIO, reason(error), path) from None
