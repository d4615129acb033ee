"""The ranges of `--vary` in a search, and random values in them."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from aelab.apps.study.variants import Variant, grid_name, parse_value, read_axes
from aelab.config import FIELDS, field_type, fields, to_text
from aelab.config.fields import Value
from aelab.errors import UsageError

GRID, RANDOM, TPE = SAMPLERS = ("grid", "random", "tpe")
_LOG, _DOTS = "log:", ".."


class Range(NamedTuple):
    """Where the values of a flag come from: one of `choices`, or `low` to `high`.

    With `is_log` the logarithm of the values is uniform. Both ends are included.
    """

    choices: tuple[Value, ...] = ()
    low: float = 0
    high: float = 0
    is_log: bool = False

    def __str__(self) -> str:
        """The text that `--vary` takes after `FLAG=`."""
        if self.choices:
            return ",".join(map(to_text, self.choices))
        return f"{_LOG * self.is_log}{self.low}{_DOTS}{self.high}"

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that limit the others: both ends, or all choices."""
        return self.choices or (self.low, self.high)

    def at(self, share: float) -> Value:
        """The value below which `share` of the range is; 0 <= share < 1."""
        if self.choices:
            return self.choices[int(share * len(self.choices))]
        # An integer n has the part of the range from n to n + 1.
        is_integer = isinstance(self.low, int)
        low, high = self.low, self.high + is_integer
        if self.is_log:
            value = low * (high / low) ** share
        else:
            value = low + (high - low) * share
        return min(math.floor(value), self.high) if is_integer else self.rounded(value)

    def rounded(self, value: Value) -> Value:
        """A number with four digits, for names and tables that can be read."""
        if self.choices or not isinstance(value, float):
            return value
        return min(max(float(f"{value:.4g}"), self.low), self.high)


@dataclass(frozen=True)
class Search:
    """A search for the best values.

    Attributes:
      sampler: RANDOM or TPE.
      ranges: by flag.
      trials: their number.
    """

    sampler: str
    ranges: Mapping[str, Range]
    trials: int

    def random_variants(self) -> list[Variant]:
        """All trials of a random search. Trial k depends on k and the ranges only."""
        variants = []
        for number in range(self.trials):
            shares = np.random.default_rng(number).random(len(self.ranges))
            # In the order of their names, so that the order of --vary does not count.
            drawn = dict(zip(sorted(self.ranges), shares.tolist(), strict=True))
            flags = {name: each.at(drawn[name]) for name, each in self.ranges.items()}
            variants.append(Variant(trial_name(number), flags))
        return variants

    def corners(self) -> Iterator[Variant]:
        """The ends of all ranges, any two of them combined, the others at their first.

        So contradictions between two flags are found; all combinations would be too
        many. The first variant is the same for equal ranges.
        """
        axes = {name: self.ranges[name].ends for name in sorted(self.ranges)}
        first = {name: ends[0] for name, ends in axes.items()}
        yield Variant(grid_name(first), first)
        for names in itertools.combinations(axes, min(2, len(axes))):
            for values in itertools.product(*(axes[name] for name in names)):
                flags = first | dict(zip(names, values, strict=True))
                yield Variant(grid_name(flags), flags)

    def to_json(self) -> dict[str, Any]:
        """The value of `search` in the description of `study.json`."""
        ranges = {name: str(each) for name, each in self.ranges.items()}
        return {"sampler": self.sampler, "ranges": ranges, "trials": self.trials}


def trial_name(number: int) -> str:
    """The name of a trial's variant."""
    return f"trial-{number:03d}"


def parse_search(sampler: str, given: Sequence[str], trials: int) -> Search:
    """The search that the flags describe.

    Args:
      sampler: RANDOM or TPE.
      given: the values of `--vary`: `FLAG=LOW..HIGH`, `FLAG=log:LOW..HIGH` or
        `FLAG=V1,V2`.
      trials: at least 1.

    Raises:
      UsageError: an unknown flag or value, one that is not a range, or no range at all.
    """
    if sampler not in (RANDOM, TPE):
        raise UsageError(f"--sampler={sampler} is not {RANDOM} or {TPE}")
    if not given or any(text.startswith("@") for text in given):
        raise UsageError(
            f"--sampler={sampler} needs --vary=FLAG=LOW..HIGH, FLAG=log:LOW..HIGH or "
            "FLAG=V1,V2"
        )
    axes = read_axes(given)
    ranges = {n: _parse(n, text, f"--vary={n}={text}") for n, text in axes.items()}
    return Search(sampler, ranges, trials)


def check_is_grid(given: Sequence[str]) -> None:
    """Raises UsageError for a range in `--vary`, which only a search can use."""
    for text in given:
        name, _, values = text.partition("=")
        if name in FIELDS and _is_range(name, values):
            raise UsageError(f"--vary={text}: a range needs --sampler=random or tpe")


def _is_range(name: str, text: str) -> bool:
    """Whether `text` is meant as a range; a path with two dots is not."""
    ends = text.removeprefix(_LOG).split(_DOTS)
    is_number = field_type(name) in (int, float)
    return len(ends) > 1 and (is_number or all(map(_is_number, ends)))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(fields.number(text))
    except ValueError:
        return False


def _parse(name: str, text: str, place: str) -> Range:
    """The range of a flag."""
    if not _is_range(name, text):
        choices = tuple(parse_value(name, value, place) for value in text.split(","))
        if len(set(choices)) < len(choices):
            raise UsageError(f"{place}: a value is given twice")
        return Range(choices)
    if field_type(name) not in (int, float) or FIELDS[name].metadata["choices"]:
        raise UsageError(f"{place}: --{name} has no range; give values, V1,V2")
    is_log = text.startswith(_LOG)
    low_text, _, high_text = text.removeprefix(_LOG).partition(_DOTS)
    low: Any = parse_value(name, low_text, place)
    high: Any = parse_value(name, high_text, place)
    if not low < high:
        raise UsageError(f"{place}: the lower end comes first, and below the other")
    if is_log and low <= 0:
        raise UsageError(f"{place}: a logarithmic range must begin above 0")
    return Range((), low, high, is_log)
