"""Codecs: the networks of a checkpoint with tables of probabilities for their codes."""

import itertools
import math
import os
import tempfile
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aelab.apps.compression import codec_file
from aelab.apps.compression.fit_tables import fit_tables
from aelab.apps.compression.inputs import check_shape
from aelab.apps.compression.tables import Tables
from aelab.data.pixels import to_8_bits, unit_tensor
from aelab.data.sources import Source, load_part, with_data_dir
from aelab.errors import ImageError, UsageError
from aelab.metrics import psnr
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import TrainedModel, load_trained
from aelab.system.files import writing

_BATCH_VALUES = 2**20  # pixel values of images in one call of a network
_MAX_INTEGER = 2.0**20
_MAX_TRAINING_IMAGES = 100_000  # to which tables are fitted
_MIN_STEP, _MAX_STEP = 1e-3, 1e3
_PSNR_LOSS = 0.1  # dB, the cost of rounding a code that was not trained for it
_STEPS: tuple[float, ...] = tuple(2.0 ** (n / 2) for n in range(8, -17, -1))


class Networks:
    """The encoder and decoder of a trained model, compiled for any number of images.

    A network is called with `batch_size` images at a time. `has_prior` is True if the
    model was trained for codes of integers.
    """

    def __init__(self, trained: TrainedModel):
        encoder, decoder = trained.autoencoder.encoder, trained.autoencoder.decoder
        self.image_shape = trained.image_shape
        self.batch_size = max(1, _BATCH_VALUES // math.prod(trained.image_shape))
        self.has_prior = trained.autoencoder.prior is not None
        images_spec = tf.TensorSpec((None, *trained.image_shape), tf.uint8)
        codes_spec = tf.TensorSpec(decoder.input_shape, tf.float32)

        @tf.function(input_signature=[images_spec], autograph=False)
        def encode(images: tf.Tensor) -> tf.Tensor:
            """The method `encode` for one batch."""
            return tf.cast(encoder(unit_tensor(images)), tf.float32)

        @tf.function(input_signature=[codes_spec], autograph=False)
        def decode(codes: tf.Tensor) -> tf.Tensor:
            """The method `decode` for one batch."""
            output = tf.clip_by_value(decoder(codes), 0.0, 1.0)
            return tf.cast(tf.round(255.0 * output), tf.uint8)

        self._encode_batch, self._decode_batch = encode, decode

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Codes of images, uint8 [n, H, W, C]: float32 [n, places]."""
        return self._in_batches(self._encode_batch, images)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Images of codes, float32 [n, places]: uint8 [n, H, W, C]."""
        return self._in_batches(self._decode_batch, codes)

    def _in_batches(self, network: Any, rows: np.ndarray) -> np.ndarray:
        size = self.batch_size
        parts = [rows[first : first + size] for first in range(0, len(rows), size)]
        return np.concatenate([network(tf.constant(part)).numpy() for part in parts])


class Codec(NamedTuple):
    """Turns images into integers, whose probabilities `tables` has, and back."""

    networks: Networks
    key: bytes  # 8 bytes, which identify the weights and the requested quantizer step
    tables: Tables

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Integers of images, uint8, clipped to the tables: int32 [n, places]."""
        integers = to_integers(self.networks.encode(images), self.tables.step)
        return self.tables.clip(integers)

    def decode(self, symbols: np.ndarray) -> np.ndarray:
        """Images of integers, int32 [n, places]: uint8 [n, H, W, C]."""
        return self.networks.decode(_to_codes(symbols, self.tables.step))


def to_integers(codes: np.ndarray, step: float) -> np.ndarray:
    """float32 codes rounded to multiples of `step`, counted in steps: int32."""
    integers = np.clip(np.rint(codes / np.float32(step)), -_MAX_INTEGER, _MAX_INTEGER)
    return integers.astype(np.int32)


def _to_codes(symbols: np.ndarray, step: float) -> np.ndarray:
    return symbols.astype(np.float32) * np.float32(step)


def open_codec(
    run: RunDirectory,
    checkpoint: str = "best",
    data_dir: str = "",
    step: float = 0.0,
    model: str = "",
) -> Codec:
    """The codec of a run's checkpoint, `best` or `latest`; see `load_trained`.

    Its tables are fitted once to the run's training images, see `with_data_dir`. The
    run directory keeps them together with the weights, so that files can still be
    decompressed after the run has continued.

    Codes are rounded to multiples of `step`. 0 means 1 for a model that was trained for
    integers, else the largest step that costs at most 0.1 dB of PSNR on training
    images.

    Raises:
      UsageError: the run, checkpoint or training images are missing; the code of an
        image is not one row of numbers; the step contradicts the model; or the tables
        are missing, and the run directory can't be written.
    """
    trained = load_trained(run, checkpoint, model)
    _check_code(run, trained)
    networks = Networks(trained)
    if step and not _MIN_STEP <= step <= _MAX_STEP:
        limits = f"from {_MIN_STEP:g} to {_MAX_STEP:g}, or 0"
        raise UsageError(f"--quantiser_step must be {limits}, not {step}")
    if step and networks.has_prior:
        raise UsageError(
            f"--quantiser_step={step} contradicts --model={trained.config.model}, "
            "which was trained for steps of 1"
        )
    key = codec_file.codec_key(codec_file.weights_of(trained), step)
    path = codec_file.codec_path(run, key)
    if not os.path.exists(path):
        with writing(f"--run_dir={run.path}, which keeps the tables,"):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            tempfile.TemporaryFile(dir=os.path.dirname(path)).close()
        source = load_part(with_data_dir(trained.config, data_dir), "train")
        tables = _fit(networks, source, 1.0 if networks.has_prior else step)
        codec_file.save_codec(path, trained, step, tables)
    return Codec(networks, key, codec_file.load_codec(path, key)[1])


def _check_code(run: RunDirectory, trained: TrainedModel) -> None:
    """Raises UsageError unless the code of an image is one row of numbers."""
    shapes = [tuple(code.shape[1:]) for code in trained.autoencoder.encoder.outputs]
    if [len(shape) for shape in shapes] != [1]:
        raise UsageError(
            f"--run_dir={run.path} is of --model={trained.config.model}, whose code "
            f"for an image has the shape {' and '.join(map(str, shapes))}; only a code "
            "that is one row of numbers can be compressed, such as --model=codec has"
        )


def find_codec(
    run: RunDirectory, key: bytes, tables_crc: int, path: str, model: str = ""
) -> Codec:
    """The codec that the compressed file `path` needs, by the numbers in its header.

    `run` is the run whose checkpoint it was compressed with. See `load_trained` for
    `model`.

    Raises:
      UsageError: the run does not exist, lacks this codec or has different tables.
    """
    if not os.path.exists(run.config_json):
        raise UsageError(f"--run_dir={run.path} holds no run: no {run.config_json}")
    stored = codec_file.codec_path(run, key)
    if not os.path.exists(stored):
        raise UsageError(
            f"{path} was compressed with the model {key.hex()}, which --run_dir="
            f"{run.path} does not have (in {os.path.dirname(stored)})"
        )
    arrays, tables = codec_file.load_codec(stored, key)
    if tables.crc != tables_crc:
        raise UsageError(
            f"{path} was compressed with other tables of probabilities than those in "
            f"{stored}, which have been fitted again since, or on another machine"
        )
    trained = codec_file.build_stored(run, stored, arrays, model)
    return Codec(Networks(trained), key, tables)


def _fit(networks: Networks, source: Source, step: float) -> Tables:
    """Tables fitted to the codes of training images; step 0 means the coarsest."""
    check_shape("the training set", source.image_shape, networks.image_shape)
    count = min(len(source), _MAX_TRAINING_IMAGES)
    ends = itertools.pairwise([*range(0, count, networks.batch_size), count])
    codes = [networks.encode(read_images(source, *pair)) for pair in ends]
    if not step:
        step = _coarsest(networks, read_images(source, 0, len(codes[0])), codes[0])
    return fit_tables(to_integers(np.concatenate(codes), step), step)


def read_images(source: Source, first: int = 0, end: int | None = None) -> np.ndarray:
    """Images of a source, uint8 [n, H, W, C]; UsageError if one can't be read."""
    try:
        images = source.read(np.arange(first, len(source) if end is None else end))
    except ImageError as error:
        raise UsageError(str(error)) from None
    return to_8_bits(images)


def _coarsest(networks: Networks, images: np.ndarray, codes: np.ndarray) -> float:
    """The largest step whose rounding costs no more than 0.1 dB of PSNR."""

    def mean_psnr(codes: np.ndarray) -> float:
        """The mean PSNR in dB of images decoded from `codes`, float32 [n, places]."""
        pair = (images, networks.decode(codes))
        values = psnr(*map(unit_tensor, pair))
        return float(tf.reduce_mean(values))

    wanted = mean_psnr(codes) - _PSNR_LOSS
    for step in _STEPS:
        if mean_psnr(_to_codes(to_integers(codes, step), step)) >= wanted:
            break
    return step
