"""Picture panels: images in a grid, to be looked at."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_TILE = 72  # a tile is drawn at least this many pixels high
_GAP = 4
_WHITE = 255


def draw_panel(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Draws rows of images of one shape on white, enlarged without smoothing.

    Args:
      rows: float32 [n, H, W, C] each, clamped to [0, 1].

    Returns:
      uint8 [height, width, C].
    """
    grid = np.stack(rows)
    grid = np.round(np.clip(grid, 0.0, 1.0) * 255).astype(np.uint8)
    scale = -(-_TILE // grid.shape[2])
    grid = grid.repeat(scale, axis=2).repeat(scale, axis=3)
    margins = [(0, 0), (0, 0), (_GAP, 0), (_GAP, 0), (0, 0)]
    grid = np.pad(grid, margins, constant_values=_WHITE)
    lines = [np.concatenate(list(row), axis=1) for row in grid]
    picture = np.concatenate(lines, axis=0)
    return np.pad(picture, [(0, _GAP), (0, _GAP), (0, 0)], constant_values=_WHITE)


def encode_png(picture: np.ndarray) -> bytes:
    """The bytes of a PNG file of `picture`, uint8 [height, width, 1, 3 or 4]."""
    return bytes(tf.io.encode_png(picture).numpy())
