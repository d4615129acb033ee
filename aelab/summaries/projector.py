"""TensorBoard's embedding projector: codes as points, with labels and thumbnails.

The plugin looks for `projector_config.pbtxt` beside event files, and reads it when it
first sees their folder: a TensorBoard that runs already has to be started anew.
"""

import dataclasses
import io
import itertools
import math
import os
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format  # type: ignore[import-untyped]
from tensorboard.plugins import projector

from aelab.config import Config
from aelab.data.pipeline import make_eval_dataset
from aelab.data.sources import Source
from aelab.summaries.panels import encode_png, to_bytes
from aelab.system.files import write_bytes
from aelab.training.step import code_rows

_MOST_IMAGES = 1000
_MOST_NUMBERS = 512  # in a code: the projector is a page that computes by itself
_MOST_PIXELS = 48  # along the longer side of a thumbnail
_BATCH = 100


def write_projector(folder: str, source: Source, config: Config, encoder: Any) -> None:
    """Writes the codes of the first evaluation images for the projector.

    `code.tsv` has the codes of up to 1,000 images as an evaluation corrupts them,
    `labels.tsv` their labels, if they are known, and their numbers, and `sprite.png`
    the clean images. Nothing is written if a code has more than 512 numbers.

    Args:
      folder: that of the event files.
      source: evaluation images.
      config: how they are corrupted.
      encoder: that of the model, a Keras model.

    Raises:
      OSError: a file can't be written.
    """
    if sum(math.prod(part.shape[1:]) for part in encoder.outputs) > _MOST_NUMBERS:
        return
    codes, thumbnails = _first_codes(source, config, encoder)
    text = io.BytesIO()
    np.savetxt(text, codes, fmt="%.6g", delimiter="\t")
    height, width = thumbnails.shape[1:3]
    content = projector.ProjectorConfig()
    points = content.embeddings.add(
        tensor_name="code",
        tensor_shape=codes.shape,
        tensor_path="code.tsv",
        metadata_path="labels.tsv",
    )
    points.sprite.image_path = "sprite.png"
    points.sprite.single_image_dim.extend([width, height])
    # The file that names the others comes last.
    files = {
        "code.tsv": text.getvalue(),
        "labels.tsv": _table(len(codes), getattr(source, "labels", None)).encode(),
        "sprite.png": encode_png(draw_sprite(thumbnails)),
        "projector_config.pbtxt": text_format.MessageToString(content).encode(),
    }
    for name, data in files.items():
        write_bytes(os.path.join(folder, name), data)


def draw_sprite(thumbnails: np.ndarray) -> np.ndarray:
    """Draws uint8 [n, h, w, C] in rows of a square, black where none is left.

    Returns:
      uint8 [side * h, side * w, C] with the smallest fitting `side`.
    """
    count, height, width, channels = thumbnails.shape
    side = math.isqrt(count - 1) + 1
    rest = np.zeros((side * side - count, height, width, channels), np.uint8)
    grid = np.concatenate([thumbnails, rest])
    grid = grid.reshape(side, side, height, width, channels).swapaxes(1, 2)
    return grid.reshape(side * height, side * width, channels)


def _first_codes(
    source: Source, config: Config, encoder: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Codes, float32 [n, numbers], and thumbnails, uint8 [n, h, w, C]."""
    batch_size = min(_BATCH, config.batch_size, len(source))
    few = dataclasses.replace(config, batch_size=batch_size)
    count = min(_MOST_IMAGES, len(source))
    number = -(-count // few.batch_size)
    codes, thumbnails = [], []
    # Stopping before the end keeps TensorFlow from logging that it was reached.
    for corrupted, clean, _ in itertools.islice(make_eval_dataset(source, few), number):
        codes.append(code_rows(encoder(corrupted, training=False)).numpy())
        thumbnails.append(to_bytes(_thumbnails(clean)))
    return np.concatenate(codes)[:count], np.concatenate(thumbnails)[:count]


def _thumbnails(images: tf.Tensor) -> np.ndarray:
    """Images, float32 [n, H, W, C], made smaller where they are large."""
    height, width = images.shape[1:3]
    scale = min(1.0, _MOST_PIXELS / max(height, width))
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    smaller: np.ndarray = tf.image.resize(images, size, method="area").numpy()
    return smaller


def _table(count: int, labels: np.ndarray | None) -> str:
    """A line an image; under a line of names if there are several columns."""
    if labels is None:
        return "".join(f"{number}\n" for number in range(count))
    rows = (f"{label}\t{number}\n" for number, label in enumerate(labels[:count]))
    return "".join(["label\timage\n", *rows])
