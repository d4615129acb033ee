"""Means over seeds, and paired differences between variants."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aelab.system.optional import require

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05  # a verdict needs a smaller p value


class Summary(NamedTuple):
    """A metric of the seeds of a variant; NaN where there are too few.

    Attributes:
      n: seeds that have a value.
      mean: of these seeds.
      sd: standard deviation, with n - 1.
    """

    n: int
    mean: float
    sd: float


class Difference(NamedTuple):
    """A variant minus the baseline, over the seeds that have a value of both.

    Attributes:
      n: these seeds.
      mean: of the differences; NaN if n is 0.
      low, high: the 95 % interval of the mean by Student's t; NaN if n is below 2.
      p: of the paired t test, two-sided; NaN if n is below 2.
    """

    n: int
    mean: float
    low: float
    high: float
    p: float


def summarize(values: Sequence[float]) -> Summary:
    """Mean and standard deviation of the finite values."""
    known = np.array([value for value in values if math.isfinite(value)])
    mean = float(known.mean()) if len(known) else math.nan
    sd = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    return Summary(len(known), mean, sd)


def mean_interval(summary: Summary) -> tuple[float, float]:
    """The 95 % interval of a mean by Student's t; NaN if n is below 2.

    Raises:
      UsageError: SciPy is needed and not installed.
    """
    n, mean, sd = summary
    if n < 2:
        return math.nan, math.nan
    stats = require("scipy.stats", extra="study")
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / math.sqrt(n)
    return mean - margin, mean + margin


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float]
) -> Difference:
    """The paired difference between two variants.

    If all differences are equal, the interval is a point, and p is 1 if they are 0 and
    0 if they are not.

    Args:
      values: the metric of the variant by seed; missing and not finite ones are left
        out.
      baseline: the same for the baseline.

    Raises:
      UsageError: SciPy is needed and not installed.
    """
    pairs = [
        (value, baseline[seed]) for seed, value in values.items() if seed in baseline
    ]
    n, mean, sd = summary = summarize([value - other for value, other in pairs])
    low, high = mean_interval(summary)
    if n < 2:
        p = math.nan
    elif sd == 0:
        p = 1.0 if mean == 0 else 0.0
    else:
        stats = require("scipy.stats", extra="study")
        p = float(2 * stats.t.sf(abs(mean) / (sd / math.sqrt(n)), n - 1))
    return Difference(n, mean, low, high, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values, corrected for their number by the step-down method of Holm (1979).

    NaN stays NaN and does not count.
    """
    known = [p for p in p_values if not math.isnan(p)]
    corrected: dict[float, float] = {}
    highest = 0.0
    for rank, p in enumerate(sorted(known)):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected.setdefault(p, highest)
    return [corrected.get(p, math.nan) for p in p_values]
