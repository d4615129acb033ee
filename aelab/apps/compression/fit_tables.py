"""Fits tables of probabilities to the codes of training images."""

import numpy as np

from aelab.apps.compression.tables import TOTAL, Tables
from aelab.errors import UsageError

_MARGIN = 32  # integers on each side of those that occur in training images
_SMOOTH_IMAGES = 16.0  # weight of the smooth distribution, in images
_OVERALL_IMAGES = 32.0  # weight of the overall distribution in a class, in images
_MAX_CLASSES = 32
_IMAGES_PER_CLASS = 100  # on average, at least
_ITERATIONS = 15
_MAX_RANGE = 2**12  # steps


def fit_tables(symbols: np.ndarray, step: float) -> Tables:
    """Tables fitted to the symbols of training images, int32 [n, places].

    The overall probability of an integer at a place is its share of the images, mixed
    with a logistic distribution of the same mean and variance, which counts as 16
    images. Each place has 32 integers more on either side than occur, with at least
    the frequency 1. Within a class, the overall distribution counts as 32 images.

    Classes are found by classification EM (Celeux and Govaert 1992), which alternates
    between two steps: fit tables to the images of each class, then move each image to
    the class in which it takes fewest bits. It starts from images that are picked with
    a fixed seed; each image joins the nearest one.

    Raises:
      UsageError: the range of integers at a place is larger than a table can hold.
    """
    widest = int((symbols.max(axis=0) - symbols.min(axis=0)).max())
    if widest > _MAX_RANGE:
        raise UsageError(
            f"the codes of training images range over {widest} steps of {step:g}, and "
            f"tables hold at most {_MAX_RANGE}: give a larger --quantiser_step"
        )
    lowest = (symbols.min(axis=0) - _MARGIN).astype(np.int32)
    sizes = (symbols.max(axis=0) + _MARGIN + 1 - lowest).astype(np.int32)
    count = min(_MAX_CLASSES, max(2, len(symbols) // _IMAGES_PER_CLASS))
    overall = _overall(symbols, lowest, sizes)
    labels = _nearest(symbols, count)
    starts = np.cumsum(sizes) - sizes
    indices = symbols - lowest + starts

    def frequencies(label: int) -> np.ndarray:
        """The row of a class: uint32 [sum of sizes]."""
        own = np.bincount(indices[labels == label].ravel(), minlength=len(overall))
        parts = np.split(own + _OVERALL_IMAGES * overall, starts[1:])
        return np.concatenate([_to_frequencies(part) for part in parts])

    for _ in range(_ITERATIONS):
        classes = _to_frequencies(np.bincount(labels, minlength=count) + 1.0)
        rows = np.stack([frequencies(label) for label in range(count)])
        tables = Tables(step, lowest, sizes, classes, rows)
        better = tables.bits(symbols).argmin(axis=0)
        if (better == labels).all():
            break
        labels = better
    return tables


def _overall(symbols: np.ndarray, lowest: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Probabilities at each place over all images: float64 [sum of sizes]."""
    parts = []
    for values, low, size in zip(symbols.T, lowest, sizes, strict=True):
        counts = np.bincount(values - low, minlength=size)
        smooth = _logistic(np.arange(low, low + size), values.mean(), values.std())
        weights = counts + _SMOOTH_IMAGES * smooth
        parts.append(weights / weights.sum())
    return np.concatenate(parts)


def _nearest(symbols: np.ndarray, count: int) -> np.ndarray:
    """For each image, the nearest of `count` images picked at random: int [n]."""
    points = symbols.astype(np.float32)
    centers = points[np.random.default_rng(0).choice(len(points), count)]
    products = points @ centers.T
    return np.asarray(((centers**2).sum(axis=1) / 2 - products).argmin(axis=1))


def _logistic(integers: np.ndarray, mean: float, stddev: float) -> np.ndarray:
    """Logistic probabilities of the intervals around integers: float64 [n]."""
    slope = np.pi / np.sqrt(3) / max(stddev, 0.1)
    edges = np.append(integers - 0.5, integers[-1] + 0.5) - mean
    return np.asarray(np.diff(np.tanh(edges * slope / 2)) / 2)


def _to_frequencies(weights: np.ndarray) -> np.ndarray:
    """Integers in proportion to `weights`, at least 1, with the sum 2**24."""
    room = TOTAL - len(weights)
    shares = np.floor(weights / weights.sum() * room)
    frequencies: np.ndarray = (1 + shares).astype(np.uint32)
    frequencies[np.argmax(weights)] += TOTAL - int(frequencies.sum())
    return frequencies
