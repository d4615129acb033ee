"""Starts TensorFlow without its start-up messages."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def redirect_fds(descriptors: tuple[int, ...], file: BinaryIO) -> Iterator[None]:
    """Sends what is written to file descriptors, C++ included, to `file`."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = {descriptor: os.dup(descriptor) for descriptor in descriptors}
    for descriptor in descriptors:
        os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, copy in before.items():
            os.dup2(copy, descriptor)
            os.close(copy)


@contextlib.contextmanager
def buffered_stderr() -> Iterator[None]:
    """Holds back what is written to file descriptor 2, and shows it after a failure."""
    with tempfile.TemporaryFile() as held:
        try:
            with redirect_fds((2,), held):
                yield
        except Exception:
            held.seek(0)
            os.write(2, held.read())
            raise


def start_tensorflow(
    virtual_cpus: int = 0, find_devices: bool = True, threads_per_op: int = 0
) -> None:
    """Imports TensorFlow and finds its devices, quietly.

    TensorFlow 2.21 writes a dozen lines about oneDNN and CUDA while it starts, whatever
    `TF_CPP_MIN_LOG_LEVEL` says (tensorflow#100442), so the file descriptor itself is
    held back. What comes later is shown, C++ messages from errors up.

    Args:
      virtual_cpus: how many logical devices the CPU is to be split into, with GPUs left
        alone; 0 = use GPUs and one CPU.
      find_devices: whether to make the devices ready now; several workers must have
        found each other before that.
      threads_per_op: how many threads one operation may use; 0 = all cores.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # On by default for AVX-512 alone; without it, convolutions take twice as long.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with buffered_stderr():
        import keras
        import tensorflow as tf

        if threads_per_op:
            tf.config.threading.set_intra_op_parallelism_threads(threads_per_op)
        if virtual_cpus:
            tf.config.set_visible_devices([], "GPU")
            tf.config.set_logical_device_configuration(
                tf.config.list_physical_devices("CPU")[0],
                [tf.config.LogicalDeviceConfiguration()] * virtual_cpus,
            )
        for gpu in tf.config.get_visible_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        if find_devices:
            tf.config.list_logical_devices()
    # Whatever the user's keras.json says, this code means these.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
