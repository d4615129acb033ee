"""The results of the runs of a study."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aelab.apps.study.state import FINISHED, Curve, RunState
from aelab.config.fields import Value


class RunResult(NamedTuple):
    """A run: a variant with one seed.

    Attributes:
      seed: its seed.
      run_dir: its folder.
      state: where it is.
      curve: its metrics.
      minutes: of training, without evaluations; NaN if they are not known.
      tested: the metrics of the test part; empty if it was not evaluated.
    """

    seed: int
    run_dir: str
    state: RunState
    curve: Curve
    minutes: float
    tested: Mapping[str, float]

    def value(self, metric: str, on_test: bool) -> float:
        """A metric of the best checkpoint of a finished run; else NaN."""
        if self.state.kind != FINISHED:
            return math.nan
        return (self.tested if on_test else self.curve.best).get(metric, math.nan)


class VariantResult(NamedTuple):
    """All runs of a variant, in the order of their seeds; `flags` are what it sets."""

    name: str
    flags: Mapping[str, Value]
    runs: Sequence[RunResult]
