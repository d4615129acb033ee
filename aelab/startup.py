"""Starts TensorFlow without its start-up messages."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Holds back what is written to file descriptor 2, and shows it after a failure."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)


def start_tensorflow() -> None:
    """Imports TensorFlow and finds its devices, quietly.

    TensorFlow 2.21 writes a dozen lines about oneDNN and CUDA while it starts, whatever
    `TF_CPP_MIN_LOG_LEVEL` says (tensorflow#100442), so the file descriptor itself is
    held back. What comes later is shown, C++ messages from errors up.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _held_back_stderr():
        import keras
        import tensorflow as tf

        tf.config.list_logical_devices()
    # Whatever the user's keras.json says, this code means these.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
