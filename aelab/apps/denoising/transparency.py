"""Colors for the transparent parts of a picture, which a model sees as well."""

import numpy as np


def fill_transparent(pixels: np.ndarray) -> np.ndarray:
    """A picture [H, W, C + 1] with alpha, with colors for its transparent pixels.

    Cut-outs are often black where they are transparent. A model would darken the
    visible rim next to that. So pixels of alpha 0 get a mean of the visible colors
    around them: of the smallest square that has any, among squares of 2, 4, 8, ...
    pixels ("push-pull", Gortler et al. 1996). Others stay as they are, and so does
    alpha.
    """
    visible = pixels[..., -1:] > 0
    if visible.all() or not visible.any():
        return pixels
    filled = pixels.copy()
    colors = np.where(visible, pixels[..., :-1], 0).astype(np.float32)
    means = _pull(colors, visible.astype(np.float32))
    hidden = ~visible[..., 0]
    if np.issubdtype(pixels.dtype, np.integer):
        means = np.rint(means)
    filled[hidden, :-1] = means[hidden].astype(pixels.dtype)
    return filled


def _pull(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The means `sums / counts`, [H, W, C]; of larger squares where a count is 0."""
    means: np.ndarray = sums / np.maximum(counts, 1)
    if counts.all():
        return means
    coarse = _pull(_halved(sums), _halved(counts))
    height, width, _ = sums.shape
    wide = coarse.repeat(2, axis=0)[:height].repeat(2, axis=1)[:, :width]
    mixed: np.ndarray = np.where(counts > 0, means, wide)
    return mixed


def _halved(values: np.ndarray) -> np.ndarray:
    """Sums over squares of 2 x 2; the border is filled up with zeros."""
    height, width, _ = values.shape
    even = np.pad(values, [(0, height % 2), (0, width % 2), (0, 0)])
    pairs = even[::2] + even[1::2]
    sums: np.ndarray = pairs[:, ::2] + pairs[:, 1::2]
    return sums
