"""Picture panels: images in a grid."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from aelab.data.pixels import to_bytes

_TILE = 72  # pixels: the smallest height of a tile
_GAP = 4
_WHITE = 255
_MAX_COLUMNS, _MIN_COLUMNS = 12, 2
_MAX_WIDTH = 1600  # pixels of a panel with more than two columns


def num_columns(image_shape: tuple[int, int, int]) -> int:
    """How many images of this shape fit in a row: 2 to 12, at most 1,600 pixels."""
    height, width, _ = image_shape
    columns = (_MAX_WIDTH - _GAP) // (_scale(height) * width + _GAP)
    return max(_MIN_COLUMNS, min(_MAX_COLUMNS, columns))


def _scale(height: int) -> int:
    """The factor by which an image of this height is enlarged."""
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


def encode_png(picture: np.ndarray, description: str = "") -> bytes:
    """A PNG file of `picture`, uint8 [height, width, 1, 3 or 4], with a description."""
    text = PngInfo()
    if description:
        text.add_text("Description", description)
    file = io.BytesIO()
    gray_or_color = picture[..., 0] if picture.shape[2] == 1 else picture
    Image.fromarray(gray_or_color).save(file, "png", pnginfo=text)
    return file.getvalue()
