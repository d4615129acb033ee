"""Tables of probabilities, learned from training images."""

import numpy as np

from aelab.apps.compression.tables import TOTAL, Tables
from aelab.errors import UsageError

_MARGIN = 32  # integers beyond those that training images have
_SMOOTH_IMAGES = 16.0  # how many images the smooth distribution counts for,
_OVERALL_IMAGES = 32.0  # and in a class the distribution over all classes
_MOST_CLASSES = 32
_IMAGES_PER_CLASS = 100  # at least, on average
_TURNS = 15
_MOST_INTEGERS = 2**12


def fit_tables(symbols: np.ndarray, step: float) -> Tables:
    """Tables from the symbols of training images, int32 [n, places], and their step.

    Over all images, a probability is the share of them that have an integer, mixed with
    a logistic distribution of the same mean and variance, which counts for 16 images.
    Integers beyond those that occur, 32 on each side, have at least the least
    frequency. Within a class, that distribution over all counts for 32 images.

    Classes are found by turns (Celeux and Govaert 1992, classification EM): tables from
    the images of each class, then for each image the class in which it takes fewest
    bits. The first ones are the images nearest to one of some that are picked at
    random, always the same.

    Raises:
      UsageError: there would be more integers at a place than tables have room for.
    """
    most = int((symbols.max(axis=0) - symbols.min(axis=0)).max())
    if most > _MOST_INTEGERS:
        raise UsageError(
            f"the codes of training images lie over {most} steps of {step:g}, and "
            f"tables have room for {_MOST_INTEGERS}: give a larger --quantiser_step"
        )
    lowest = (symbols.min(axis=0) - _MARGIN).astype(np.int32)
    sizes = (symbols.max(axis=0) + _MARGIN + 1 - lowest).astype(np.int32)
    count = min(_MOST_CLASSES, max(2, len(symbols) // _IMAGES_PER_CLASS))
    overall = _overall(symbols, lowest, sizes)
    chosen = _nearest(symbols, count)
    for _ in range(_TURNS):
        tables = _tables_of(symbols, chosen, count, step, lowest, sizes, overall)
        better = tables.bits(symbols).argmin(axis=0)
        if (better == chosen).all():
            break
        chosen = better
    return tables


def _tables_of(
    symbols: np.ndarray,
    chosen: np.ndarray,
    count: int,
    step: float,
    lowest: np.ndarray,
    sizes: np.ndarray,
    overall: np.ndarray,
) -> Tables:
    """Tables of classes, `chosen` [n] the class of each row of symbols."""
    starts = np.cumsum(sizes) - sizes
    indices = symbols - lowest + starts
    rows = []
    for number in range(count):
        own = indices[chosen == number].ravel()
        weights = np.bincount(own, minlength=len(overall)) + _OVERALL_IMAGES * overall
        parts = [_integers(part) for part in np.split(weights, starts[1:])]
        rows.append(np.concatenate(parts))
    classes = _integers(np.bincount(chosen, minlength=count) + 1.0)
    return Tables(step, lowest, sizes, classes, np.stack(rows))


def _overall(symbols: np.ndarray, lowest: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Probabilities of each place over all images: float64 [sum of sizes]."""
    parts = []
    for place, (low, size) in enumerate(zip(lowest, sizes, strict=True)):
        values = symbols[:, place]
        counts = np.bincount(values - low, minlength=size)
        smooth = _logistic(np.arange(low, low + size), values.mean(), values.std())
        weights = counts + _SMOOTH_IMAGES * smooth
        parts.append(weights / weights.sum())
    return np.concatenate(parts)


def _nearest(symbols: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` of the images, picked at random, is nearest to each: [n]."""
    points = symbols.astype(np.float32)
    picked = np.random.default_rng(0).choice(len(points), count)
    centres = points[picked]
    products = points @ centres.T
    nearest: np.ndarray = ((centres**2).sum(axis=1) / 2 - products).argmin(axis=1)
    return nearest


def _logistic(integers: np.ndarray, mean: float, stddev: float) -> np.ndarray:
    """Probabilities of integers, float64 [n]: those of the intervals around them."""
    slope = np.pi / np.sqrt(3) / max(stddev, 0.1)
    edges = np.append(integers - 0.5, integers[-1] + 0.5) - mean
    probabilities: np.ndarray = np.diff(np.tanh(edges * slope / 2)) / 2
    return probabilities


def _integers(weights: np.ndarray) -> np.ndarray:
    """Frequencies in proportion to `weights`, at least 1, that add up to 2**24."""
    room = TOTAL - len(weights)
    shares = np.floor(weights / weights.sum() * room)
    frequencies: np.ndarray = (1 + shares).astype(np.uint32)
    frequencies[np.argmax(weights)] += TOTAL - int(frequencies.sum())
    return frequencies
