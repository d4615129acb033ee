"""Tiles of a picture, which overlap and reach into its reflection."""

import itertools
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """A tile along one axis, in pixels of the picture."""

    start: int  # negative before the beginning of the picture
    first: int  # the part of the tile that is used begins here
    end: int  # and ends before this pixel


def cut(size: int, extended: int, tile: int, margin: int) -> list[Span]:
    """Cuts an axis into tiles of one length, whose used parts cover the picture once.

    The picture has `size` pixels, and the axis is `extended` by `margin` pixels before
    it and at least as many after it. A tile has at most `extended` pixels and more than
    twice the margin; `margin` pixels at each end are not used. Tiles begin at multiples
    of `tile - 2 * margin`, counted from the first. Only the last one may begin earlier:
    it ends where the extended axis ends.
    """
    starts = [*range(0, extended - tile, tile - 2 * margin), extended - tile]
    borders = [0, *starts[1:], size]
    return [
        Span(start - margin, first, end)
        for start, (first, end) in zip(starts, itertools.pairwise(borders), strict=True)
    ]


def crop(
    pixels: np.ndarray, window: tuple[Span, ...], tile: tuple[int, ...]
) -> np.ndarray:
    """A tile [h, w, C] of a picture [H, W, C], which is reflected at its borders."""
    inside, missing = [], []
    for span, length, size in zip(window, tile, pixels.shape, strict=False):
        end = span.start + length
        inside.append(slice(max(span.start, 0), min(end, size)))
        missing.append((max(-span.start, 0), max(end - size, 0)))
    return np.pad(pixels[tuple(inside)], [*missing, (0, 0)], mode="reflect")
