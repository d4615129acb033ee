"""Picture panels: images in a grid, to be looked at."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_TILE = 72  # a tile is drawn at least this many pixels high
_GAP = 4
_WHITE = 255
_MOST_COLUMNS, _FEWEST_COLUMNS = 12, 2
_MOST_WIDTH = 1600  # pixels of a panel of more than the fewest columns


def num_columns(image_shape: tuple[int, int, int]) -> int:
    """How many images of this shape stand in a row: 2 to 12, in up to 1,600 pixels."""
    height, width, _ = image_shape
    fitting = (_MOST_WIDTH - _GAP) // (_scale(height) * width + _GAP)
    return max(_FEWEST_COLUMNS, min(_MOST_COLUMNS, fitting))


def _scale(height: int) -> int:
    """How many times an image of this height is enlarged."""
    return -(-_TILE // height)


def draw_panel(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Draws rows of images of one shape on white, enlarged without smoothing.

    Args:
      rows: float32 [n, H, W, C] each, clamped to [0, 1].

    Returns:
      uint8 [height, width, C].
    """
    grid = to_bytes(np.stack(rows))
    scale = _scale(grid.shape[2])
    grid = grid.repeat(scale, axis=2).repeat(scale, axis=3)
    margins = [(0, 0), (0, 0), (_GAP, 0), (_GAP, 0), (0, 0)]
    grid = np.pad(grid, margins, constant_values=_WHITE)
    lines = [np.concatenate(list(row), axis=1) for row in grid]
    picture = np.concatenate(lines, axis=0)
    return np.pad(picture, [(0, _GAP), (0, _GAP), (0, 0)], constant_values=_WHITE)


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Float32 in [0, 1], clamped to it, as the nearest uint8 in [0, 255]."""
    levels: np.ndarray = np.round(np.clip(images, 0.0, 1.0) * 255).astype(np.uint8)
    return levels


def encode_png(picture: np.ndarray) -> bytes:
    """The bytes of a PNG file of `picture`, uint8 [height, width, 1, 3 or 4]."""
    return bytes(tf.io.encode_png(picture).numpy())
