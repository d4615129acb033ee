"""Evaluation images to look at: picture panels, and codes for the projector.

A panel is a function `(sample) -> {row: float32 [n, H, W, C] in [0, 1]}`. The first
line of its docstring describes it in TensorBoard and in reports. All rows have the same
shape; values are clamped to [0, 1]. `aelab.config.registry.PANELS` has the tags.
"""

import dataclasses
import itertools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import PANELS, load
from aelab.data.pipeline import make_eval_dataset
from aelab.data.pixels import to_bytes
from aelab.data.sources import Source
from aelab.models import Autoencoder
from aelab.summaries.panels import num_columns
from aelab.summaries.summaries import Summaries
from aelab.system.console import warn
from aelab.system.tensorflow_errors import reason
from aelab.training.objective import encode, flat_code, forward
from aelab.training.state import Run, TrainState

_MAX_CODES = 1000
_MAX_CODE_SIZE = 512  # numbers; the projector computes in the browser
_CODES_PER_BATCH = 100
_THUMBNAIL_SIZE = 48  # pixels along the longer side


class Sample(NamedTuple):
    """The first evaluation images and the model's results for them.

    Attributes:
      clean: float32 [n, H, W, C] in [0, 1]; None if the images are noisy themselves.
      corrupted: the model's input, of the same shape.
      output: the model's output, of the same shape.
      code: float32 [n, numbers].
    """

    clean: np.ndarray | None
    corrupted: np.ndarray
    output: np.ndarray
    code: np.ndarray


class Sampler:
    """Runs the model on a few fixed evaluation images, as many as fit in a row."""

    def __init__(self, autoencoder: Autoencoder, source: Source, config: Config):
        """Reads the images and compiles the forward pass."""
        columns = min(num_columns(source.image_shape), len(source))
        few = dataclasses.replace(config, batch_size=columns, whole_pictures=False)
        corrupted, clean, *_ = next(iter(make_eval_dataset(source, few)))
        self._corrupted = corrupted
        self._clean = clean.numpy() if config.has_clean_images else None

        @tf.function(autograph=False)
        def code_and_output(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """The codes, float32 [n, numbers], and the outputs."""
            result = forward(autoencoder, images, training=False)
            return flat_code(result.code), result.output

        self._code_and_output = code_and_output

    def __call__(self) -> Sample:
        """The sample with the model's present weights."""
        code, output = self._code_and_output(self._corrupted)
        corrupted = self._corrupted.numpy()
        return Sample(self._clean, corrupted, output.numpy(), code.numpy())


def reconstructions(sample: Sample) -> dict[str, np.ndarray]:
    """Rows from the top: clean, corrupted (the model's input), output."""
    rows = {name: getattr(sample, name) for name in ("clean", "corrupted", "output")}
    return {name: images for name, images in rows.items() if images is not None}


def write_sample(
    summaries: Summaries, sample: Sample, state: TrainState, step: int
) -> None:
    """Writes the picture panels, and the histograms of weights and codes."""
    for tag, target in PANELS.items():
        panel = load(target, tag)
        description = (panel.__doc__ or tag).partition("\n")[0]
        summaries.image(tag, panel(sample), description, step)
    variables = state.evaluated.named_variables().items()
    weights = {name: variable.numpy() for name, variable in variables}
    summaries.histograms(step, weights, sample.code)


def write_codes(summaries: Summaries, run: Run) -> None:
    """Writes the codes for TensorBoard's projector, if they are small enough."""
    try:
        codes = first_codes(run.state.evaluated, run.splits.eval, run.config)
    except (OSError, tf.errors.OpError) as error:  # the run is complete without them
        warn(f"can't compute codes for the projector: {reason(error) or error}")
        return
    if codes:
        summaries.projector(codes.codes, codes.thumbnails, codes.labels)


class Codes(NamedTuple):
    """Codes of evaluation images.

    Attributes:
      codes: float32 [n, numbers].
      thumbnails: uint8 [n, h, w, C], the clean images, made smaller if they are large.
      labels: uint8 [n], or None if they are not known.
    """

    codes: np.ndarray
    thumbnails: np.ndarray
    labels: np.ndarray | None


def first_codes(
    autoencoder: Autoencoder, source: Source, config: Config
) -> Codes | None:
    """The codes of up to 1,000 evaluation images, corrupted as in an evaluation.

    Returns:
      None if a code has more than 512 numbers, or depends on the size of a picture.
    """
    shapes = [part.shape[1:] for part in autoencoder.decoder.inputs]
    if any(None in shape for shape in shapes):
        return None
    if sum(map(math.prod, shapes)) > _MAX_CODE_SIZE:
        return None
    batch_size = min(_CODES_PER_BATCH, config.batch_size, len(source))
    few = dataclasses.replace(config, batch_size=batch_size, whole_pictures=False)
    count = min(_MAX_CODES, len(source))
    codes, thumbnails = [], []
    # Stops before the end, so that TensorFlow does not log an end of sequence.
    batches = itertools.islice(make_eval_dataset(source, few), -(-count // batch_size))
    for corrupted, clean, *_ in batches:
        codes.append(flat_code(encode(autoencoder, corrupted, False)[1]).numpy())
        thumbnails.append(to_bytes(_thumbnails(clean)))
    labels = getattr(source, "labels", None)
    return Codes(
        np.concatenate(codes)[:count],
        np.concatenate(thumbnails)[:count],
        None if labels is None else labels[:count],
    )


def _thumbnails(images: tf.Tensor) -> np.ndarray:
    """Images, float32 [n, H, W, C], made smaller if they are large."""
    height, width = images.shape[1:3]
    scale = min(1.0, _THUMBNAIL_SIZE / max(height, width))
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    smaller: np.ndarray = tf.image.resize(images, size, method="area").numpy()
    return smaller
