"""The files `RUN/codec/KEY.npz`: all that is needed to decompress.

A file holds the weights of a checkpoint, the tables fitted for them, and since format 2
a description of the model: `format` (int64), `config` (uint8, the fields of the run's
configuration as JSON) and `image_shape` (int64 [3]). Files of format 1 lack these
three; their model is described by the run's `config.json`.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import os
import uuid
from collections.abc import Mapping

import numpy as np

from aelab.apps.compression.tables import Tables
from aelab.config import FORMAT, from_json
from aelab.errors import UsageError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory, check_model
from aelab.runs.trained_model import TrainedModel, build_trained
from aelab.system.files import write_bytes


def codec_path(run: RunDirectory, key: bytes) -> str:
    """The file of a run with the weights and tables that `key` identifies."""
    return os.path.join(run.path, "codec", f"{key.hex()}.npz")


def weights_of(trained: TrainedModel) -> dict[str, np.ndarray]:
    """The model's weights as named arrays."""
    named = trained.autoencoder.named_variables()
    return {f"model/{name}": variable.numpy() for name, variable in named.items()}


def codec_key(weights: Mapping[str, np.ndarray], quantiser_step: float) -> bytes:
    """8 bytes of a hash of the weights and of the requested quantizer step."""
    digest = hashlib.sha256(np.float64(quantiser_step).astype("<f8").tobytes())
    for name, array in sorted(weights.items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.digest()[:8]


def save_codec(
    path: str, trained: TrainedModel, quantiser_step: float, tables: Tables
) -> None:
    """Writes a codec's file, unless another process has written it meanwhile."""
    config = json.dumps(dataclasses.asdict(trained.config)).encode()
    arrays = {
        "format": np.asarray(FORMAT, np.int64),
        "config": np.frombuffer(config, np.uint8),
        "image_shape": np.asarray(trained.image_shape, np.int64),
        "step": np.asarray(trained.step),
        "quantiser": np.asarray(quantiser_step),
    }
    arrays |= weights_of(trained) | tables.arrays()
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    own = f"{path}.{uuid.uuid4().hex}"
    try:
        write_bytes(own, content.getvalue())
        _rename_new(own, path)
    finally:
        with contextlib.suppress(OSError):
            os.remove(own)


def _rename_new(own: str, path: str) -> None:
    """Gives a file the name `path` unless that exists; `own` may remain.

    A hard link fails if the name exists. On file systems without hard links, for
    example exFAT, a lock on the folder keeps other processes away meanwhile.
    """
    try:
        return os.link(own, path)
    except FileExistsError:
        return None
    except OSError:
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not os.path.exists(path):
            os.rename(own, path)
    finally:
        os.close(folder)


def load_codec(path: str, key: bytes) -> tuple[dict[str, np.ndarray], Tables]:
    """Reads a codec's file: its arrays, for `build_stored`, and its tables.

    Raises:
      UsageError: the file has a later format or is damaged.
    """
    arrays = checkpoints.load(path)
    weights = {n: a for n, a in arrays.items() if n.startswith("model/")}
    try:
        if codec_key(weights, arrays["quantiser"].item()) != key:
            raise ValueError("its weights do not match its name")
        return arrays, Tables.from_arrays(arrays)
    except UsageError:  # a library is missing
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is damaged: {error}") from None


def build_stored(
    run: RunDirectory, path: str, arrays: Mapping[str, np.ndarray], model: str = ""
) -> TrainedModel:
    """Builds the model of the codec's file `path`, which holds `arrays`.

    Reads the run's `config.json` only for files of format 1. See `load_trained` for
    `model`.

    Raises:
      UsageError: the description is damaged, or does not fit the weights.
    """
    if "config" in arrays:
        try:
            text = arrays["config"].tobytes().decode()
            height, width, channels = map(int, arrays["image_shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} is damaged: {error}") from None
        config, shape = from_json(text, path), (height, width, channels)
    else:
        config, shape = run.read_config(), run.read_image_shape()
    check_model(config.model, model, path)
    # The file has only the weights that are used: the averaged ones, if there are any.
    config = dataclasses.replace(config, weight_average=0.0)
    return build_trained(config, shape, path, arrays)
