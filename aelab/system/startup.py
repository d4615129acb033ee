"""Starts TensorFlow without its start-up messages."""

import contextlib
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from aelab.errors import UsageError

_REPLAY = """
import os, sys
if not os.read(0, 1):
    buffer = int(sys.argv[1])
    os.lseek(buffer, 0, os.SEEK_SET)
    while text := os.read(buffer, 4096):
        os.write(2, text)
"""


@contextlib.contextmanager
def redirect_fds(descriptors: tuple[int, ...], file: BinaryIO) -> Iterator[None]:
    """Sends output to file descriptors, including C++ output, to `file`."""
    _flush()
    copies = {descriptor: os.dup(descriptor) for descriptor in descriptors}
    for descriptor in descriptors:
        os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        _flush()
        for descriptor, copy in copies.items():
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    """Writes what is buffered, unless it can't be: a full disk, or a closed pipe."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


@contextlib.contextmanager
def buffered_stderr() -> Iterator[None]:
    """Buffers stderr, including C++ output. On failure, another process replays it.

    A failure may also be an abort in C++, which ends this process.
    """
    with open(os.memfd_create("stderr"), "w+b") as buffer:
        command = [sys.executable, "-S", "-c", _REPLAY, str(buffer.fileno())]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            pass_fds=(buffer.fileno(),),
            start_new_session=True,
        ) as replay:
            with redirect_fds((2,), buffer):
                yield
            replay.communicate(b"done")


def start_tensorflow(
    virtual_cpus: int = 0, find_devices: bool = True, threads_per_op: int = 0
) -> None:
    """Imports TensorFlow and initializes its devices, without messages.

    TensorFlow 2.21 writes a dozen lines about oneDNN and CUDA while it starts, whatever
    `TF_CPP_MIN_LOG_LEVEL` is (tensorflow#100442), so the file descriptor itself is
    redirected. Afterwards C++ messages are shown from level ERROR up.

    `virtual_cpus` splits the CPU into that many logical devices and hides the GPUs; 0
    keeps both. `threads_per_op` is the maximum for one operation; 0 = all cores. Call
    it without `find_devices` if several workers must connect before devices exist.

    Raises:
      UsageError: Keras refuses the user's `keras.json`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # On by default only with AVX-512; without it, convolutions take twice as long.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_NNX_ENABLED"] = "false"  # for JAX; it needs the library flax
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    with buffered_stderr():
        _allow_read_only_system()
        _import_keras()
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
    # These override the user's keras.json.
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


def _allow_read_only_system() -> None:
    """Lets TensorFlow and Keras be imported where no temporary folder can be written.

    TensorFlow asks for the folder's name only. Keras imports matplotlib if it is there,
    which fails if it can't write its cache; then it is as if it were not installed.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = "/tmp"
        try:
            importlib.import_module("matplotlib")
        except OSError:
            sys.modules["matplotlib"] = None  # type: ignore[assignment]
        except ImportError:
            pass


def _import_keras() -> None:
    """Imports Keras, which reads the user's keras.json."""
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    path = os.path.join(home, "keras.json")
    try:
        import keras  # noqa: F401
    except (ValueError, TypeError, AttributeError, AssertionError) as error:
        if not os.path.exists(path):
            raise
        raise UsageError(f"Keras refuses {path}: {error}; mend or remove it") from None
