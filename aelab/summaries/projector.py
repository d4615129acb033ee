"""TensorBoard's embedding projector: codes as points, with labels and thumbnails.

The plugin looks for `projector_config.pbtxt` next to event files and reads it when it
first sees their folder, so a running TensorBoard has to be restarted.
"""

import io
import math
import os

import numpy as np
from google.protobuf import text_format  # type: ignore[import-untyped]
from tensorboard.plugins import projector

from aelab.summaries.panels import encode_png
from aelab.system.files import write_bytes


def write_projector(
    folder: str,
    codes: np.ndarray,
    thumbnails: np.ndarray,
    labels: np.ndarray | None = None,
) -> None:
    """Writes `code.tsv`, `labels.tsv`, `sprite.png` and the file that names them.

    Args:
      folder: the folder of the event files.
      codes: float32 [n, numbers].
      thumbnails: uint8 [n, h, w, C].
      labels: [n], or None.

    Raises:
      OSError: a file can't be written.
    """
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
    files = {
        "code.tsv": text.getvalue(),
        "labels.tsv": _labels_tsv(len(codes), labels).encode(),
        "sprite.png": encode_png(draw_sprite(thumbnails)),
        # Written last, because it names the others.
        "projector_config.pbtxt": text_format.MessageToString(content).encode(),
    }
    for name, data in files.items():
        write_bytes(os.path.join(folder, name), data)


def draw_sprite(thumbnails: np.ndarray) -> np.ndarray:
    """Draws thumbnails, uint8 [n, h, w, C], in a square; unused places are black.

    Returns:
      uint8 [side * h, side * w, C] with the smallest `side` that fits.
    """
    count, height, width, channels = thumbnails.shape
    side = math.isqrt(count - 1) + 1
    rest = np.zeros((side * side - count, height, width, channels), np.uint8)
    grid = np.concatenate([thumbnails, rest])
    grid = grid.reshape(side, side, height, width, channels).swapaxes(1, 2)
    return grid.reshape(side * height, side * width, channels)


def _labels_tsv(count: int, labels: np.ndarray | None) -> str:
    """One line per image; a header if there are several columns."""
    if labels is None:
        return "".join(f"{number}\n" for number in range(count))
    rows = (f"{label}\t{number}\n" for number, label in enumerate(labels[:count]))
    return "".join(["label\timage\n", *rows])
