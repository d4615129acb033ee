"""A codec: the weights of a checkpoint and the tables that were learned for them."""

import contextlib
import hashlib
import io
import itertools
import math
import os
import uuid
from typing import Any

import numpy as np
import tensorflow as tf

from aelab.apps.compression.fit_tables import fit_tables
from aelab.apps.compression.tables import Tables
from aelab.data.sources import Source, load_split, with_data_dir
from aelab.errors import ImageError, UsageError
from aelab.metrics import psnr
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import TrainedModel, build_trained, load_trained
from aelab.system.files import write_bytes

CODABLE = ("codec", "dense")

_VALUES = 2**20  # of images in one call of the network
_LARGEST = 2.0**20  # integer that a code may hold
_MAX_TRAINING = 100_000  # images that tables are learned from
_STEP_LIMITS = (1e-3, 1e3)
_PSNR_LOSS = 0.1  # dB, what rounding may cost a code that was not trained for it
_STEPS: tuple[float, ...] = tuple(2.0 ** (n / 2) for n in range(8, -17, -1))


class Codec:
    """Turns images into integers and back; its tables say how probable each integer is.

    Attributes:
      key: 8 bytes that tell the weights, and the step that was asked for, from others.
      image_shape: (height, width, channels).
      tables: see `Tables`.
    """

    def __init__(self, trained: TrainedModel, key: bytes, tables: Tables):
        """Compiles the networks of `trained` for any number of images."""
        self.key, self.tables = key, tables
        self.image_shape = trained.image_shape
        self._model = trained.model  # compiled functions alone would let it go
        self._encode, self._decode = _encoder(trained), _decoder(trained)
        self._rows = _rows(trained.image_shape)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Integers of images, uint8 [n, H, W, C]: int32 [n, places].

        What a table does not have becomes the nearest that it has.
        """
        parts = [self._encode(tf.constant(part)).numpy() for part in self._cut(images)]
        integers = to_integers(np.concatenate(parts), self.tables.step)
        return self.tables.clip(integers)

    def decode(self, symbols: np.ndarray) -> np.ndarray:
        """Images of integers, int32 [n, places]: uint8 [n, H, W, C]."""
        codes = symbols.astype(np.float32) * np.float32(self.tables.step)
        return np.concatenate(
            [self._decode(tf.constant(part)).numpy() for part in self._cut(codes)]
        )

    def _cut(self, rows: np.ndarray) -> list[np.ndarray]:
        return [rows[n : n + self._rows] for n in range(0, len(rows), self._rows)]


def to_integers(code: np.ndarray, step: float) -> np.ndarray:
    """The nearest multiples of `step`, counted in steps: int32 of a float32 code."""
    integers = np.clip(np.rint(code / np.float32(step)), -_LARGEST, _LARGEST)
    return integers.astype(np.int32)


def _rows(image_shape: tuple[int, int, int]) -> int:
    """How many images go through a network at a time."""
    return max(1, _VALUES // math.prod(image_shape))


def _encoder(trained: TrainedModel) -> Any:
    images = tf.TensorSpec((None, *trained.image_shape), tf.uint8)

    @tf.function(input_signature=[images], autograph=False)
    def encode(images: tf.Tensor) -> tf.Tensor:
        code = trained.model.encoder(tf.cast(images, tf.float32) / 255.0)
        return tf.cast(code, tf.float32)

    return encode.get_concrete_function()


def _decoder(trained: TrainedModel) -> Any:
    code = tf.TensorSpec(trained.model.decoder.input_shape, tf.float32)

    @tf.function(input_signature=[code], autograph=False)
    def decode(code: tf.Tensor) -> tf.Tensor:
        output = tf.clip_by_value(trained.model.decoder(code), 0.0, 1.0)
        return tf.cast(tf.round(255.0 * output), tf.uint8)

    return decode.get_concrete_function()


def open_codec(
    run: RunDirectory, checkpoint: str = "best", data_dir: str = "", step: float = 0.0
) -> Codec:
    """The codec of a run's checkpoint.

    Its tables are learned from the run's training images once, and kept in the run
    directory together with the weights, so that files can be decompressed when the run
    has gone on.

    Args:
      run: the run.
      checkpoint: `best` or `latest`.
      data_dir: where the run's data files are now, if they were moved.
      step: what a code is rounded to multiples of; 0 for 1 if the model was trained for
        that, else for the coarsest that costs 0.1 dB of PSNR in training images.

    Raises:
      UsageError: no run or checkpoint, a model without a code of one length, no
        training images, or the step contradicts the model.
    """
    trained = load_trained(run, checkpoint)
    config = trained.config
    if config.model not in CODABLE:
        raise UsageError(
            f"--run_dir={run.path} is of --model={config.model}, whose code is larger "
            f"than an image; --model={' and --model='.join(CODABLE)} can be coded"
        )
    least, most = _STEP_LIMITS
    if step and not least <= step <= most:
        raise UsageError(
            f"--quantiser_step must be from {least:g} to {most:g}, or 0, not {step}"
        )
    if step and config.sends_integers():
        raise UsageError(
            f"--quantiser_step={step} contradicts --model={config.model}, which was "
            "trained for steps of 1"
        )
    weights = {f"model/{v.path}": v.numpy() for v in trained.model.variables}
    key = _key(weights, step)
    if os.path.exists(path := codec_path(run, key)):
        return _load(run, path, key)
    source = load_split(with_data_dir(config, data_dir), "train")
    tables = _learn(trained, source, 1.0 if config.sends_integers() else step)
    content = io.BytesIO()
    known = {"step": np.asarray(trained.step), "quantiser": np.asarray(step)}
    arrays = weights | known | tables.arrays()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    _write_once(path, content.getvalue())
    return _load(run, path, key)


def _write_once(path: str, content: bytes) -> None:
    """Writes a file unless it is there, as another process may do at the same time."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    own = f"{path}.{uuid.uuid4().hex}"
    try:
        write_bytes(own, content)
        with contextlib.suppress(FileExistsError):
            os.link(own, path)
    finally:
        with contextlib.suppress(OSError):
            os.remove(own)


def find_codec(run: RunDirectory, key: bytes, tables_crc: int, path: str) -> Codec:
    """The codec that a compressed file needs.

    Args:
      run: the run whose checkpoint it was compressed with.
      key: what the file says of its weights.
      tables_crc: what the file says of its tables.
      path: the file, for the message.

    Raises:
      UsageError: the run directory does not have it, or has other tables for it.
    """
    run.read_config()  # says if it is no run at all
    if not os.path.exists(codec_path(run, key)):
        raise UsageError(
            f"{path} was compressed with the model {key.hex()}, which --run_dir="
            f"{run.path} does not have (in {os.path.dirname(codec_path(run, key))})"
        )
    codec = _load(run, codec_path(run, key), key)
    if codec.tables.crc != tables_crc:
        raise UsageError(
            f"{path} was compressed with other tables of probabilities than those in "
            f"{codec_path(run, key)}: they were learned again since, or elsewhere"
        )
    return codec


def codec_path(run: RunDirectory, key: bytes) -> str:
    """The file of a run with the weights and tables that `key` names."""
    return os.path.join(run.path, "codec", f"{key.hex()}.npz")


def _key(weights: dict[str, np.ndarray], step: float) -> bytes:
    """8 bytes of a hash of the weights and of the step that was asked for."""
    digest = hashlib.sha256(np.float64(step).astype("<f8").tobytes())
    for name, array in sorted(weights.items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.digest()[:8]


def _load(run: RunDirectory, path: str, key: bytes) -> Codec:
    arrays = checkpoints.load(path)
    weights = {n: a for n, a in arrays.items() if n.startswith("model/")}
    try:
        if _key(weights, arrays["quantiser"].item()) != key:
            raise ValueError("it holds other weights than its name says")
        tables = Tables.from_arrays(arrays)
    except (KeyError, ValueError) as error:
        raise UsageError(f"{path} is damaged: {error}") from None
    return Codec(build_trained(run, path, arrays), key, tables)


def _learn(trained: TrainedModel, source: Source, step: float) -> Tables:
    """Tables for the codes of training images, rounded to multiples of `step`."""
    if source.image_shape != trained.image_shape:
        raise UsageError(
            f"the training images are {source.image_shape}, and the model takes "
            f"{trained.image_shape} (height, width, channels)"
        )
    encode, rows = _encoder(trained), _rows(source.image_shape)
    count = min(len(source), _MAX_TRAINING)
    ends = itertools.pairwise([*range(0, count, rows), count])
    try:
        codes = [
            encode(tf.constant(source.read(np.arange(*pair)))).numpy() for pair in ends
        ]
    except ImageError as error:
        raise UsageError(str(error)) from None
    code = np.concatenate(codes)
    step = step or _coarsest(trained, source.read(np.arange(len(codes[0]))), codes[0])
    return fit_tables(to_integers(code, step), step)


def _coarsest(trained: TrainedModel, images: np.ndarray, code: np.ndarray) -> float:
    """The largest step whose rounding costs no more than 0.1 dB of PSNR."""
    decode = _decoder(trained)

    def mean_psnr(code: np.ndarray) -> float:
        output = decode(tf.constant(code, tf.float32))
        values = psnr(
            tf.cast(images, tf.float32) / 255, tf.cast(output, tf.float32) / 255
        )
        return float(tf.reduce_mean(values))

    wanted = mean_psnr(code) - _PSNR_LOSS
    return next(
        (
            s
            for s in _STEPS
            if mean_psnr(to_integers(code, s) * np.float32(s)) >= wanted
        ),
        _STEPS[-1],
    )
