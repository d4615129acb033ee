"""The table of a study: means over seeds, and differences from a baseline."""

import math
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aelab.apps.study import wording
from aelab.apps.study.results import VariantResult
from aelab.apps.study.state import FINISHED
from aelab.apps.study.statistics import (
    Difference,
    Summary,
    holm,
    paired_difference,
    summarize,
)
from aelab.config import to_text
from aelab.errors import UsageError
from aelab.metric_info import METRICS, heading
from aelab.system.console import printable

Number = str | int | float  # NaN if it is not known


class Column(NamedTuple):
    """A title, the alignment `l` or `r` (left, right), and a cell per variant."""

    title: str
    alignment: str
    cells: Sequence[str]


@dataclass(frozen=True)
class Table:
    """The table of a study.

    Attributes:
      caption: sentences on the columns.
      columns: at least one.
      numbers: for each variant the numbers, not rounded, by the name of their column in
        `table.csv`.
    """

    caption: str
    columns: Sequence[Column]
    numbers: Sequence[Mapping[str, Number]]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells of each variant."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


class _Comparison(NamedTuple):
    """A metric of a variant, its difference from the baseline, and Holm's p value."""

    summary: Summary
    difference: Difference
    p_holm: float


def make_table(
    variants: Sequence[VariantResult],
    metrics: Sequence[str],
    baseline: str,
    on_test: bool,
    is_search: bool = False,
    chosen_on_test: Collection[str] = (),
) -> Table:
    """The table of a study, with a row for each variant.

    Args:
      variants: in the order of the rows.
      metrics: their names in `metrics.jsonl`.
      baseline: the name of the variant that the others are compared with. Of a search,
        it may be a trial that has not begun.
      on_test: whether the metrics are of the test part.
      is_search: whether the variants are the trials of a search.
      chosen_on_test: the variants without a validation part: the test part validates.

    Raises:
      UsageError: `baseline` is not a variant, or SciPy is needed and not installed.
    """
    names = [variant.name for variant in variants]
    if baseline not in names and not is_search:
        raise UsageError(
            f"--baseline={baseline} is not a variant; there are {', '.join(names)}"
        )
    compared = {m: _compare(variants, m, baseline, on_test) for m in metrics}
    # Of a search only the best trial is tested: there is nothing to compare.
    known = [v for v in variants if not on_test or any(run.tested for run in v.runs)]
    others = metrics if len(known) > 1 else ()
    chosen = [name in chosen_on_test for name in names]
    caption = wording.caption(
        wording.part_text(on_test, chosen),
        max(len(variant.runs) for variant in variants),
        baseline,
        [[each.difference for each in compared[m]] for m in others],
        is_search,
    )
    columns = [*_first_columns(variants)]
    columns += [_metric_column(variants, m, compared[m], on_test) for m in metrics]
    columns += _cost_columns(variants)
    columns += [_difference_column(names, m, compared[m], baseline) for m in others]
    numbers = [
        _numbers(variant, on_test or chosen[i], {m: compared[m][i] for m in metrics})
        for i, variant in enumerate(variants)
    ]
    return Table(printable(caption), columns, numbers)


def _compare(
    variants: Sequence[VariantResult], metric: str, baseline: str, on_test: bool
) -> list[_Comparison]:
    """A metric of all variants; the baseline has no difference from itself."""
    values = {
        v.name: {run.seed: run.value(metric, on_test) for run in v.runs}
        for v in variants
    }
    summaries = [summarize(list(by_seed.values())) for by_seed in values.values()]
    reference = values.get(baseline, {})
    differences = [
        paired_difference({} if name == baseline else by_seed, reference)
        for name, by_seed in values.items()
    ]
    corrected = holm([difference.p for difference in differences])
    return [*map(_Comparison, summaries, differences, corrected)]


def _first_columns(variants: Sequence[VariantResult]) -> Iterator[Column]:
    """Names, the flags that differ, and counts of seeds."""
    names = [variant.name for variant in variants]
    flags = [", ".join(f"{n}={v}" for n, v in f.items()) for f in _flags(variants)]
    yield Column("variant", "l", [*map(printable, names)])
    # The names of a grid's variants say already what differs.
    if any(flags) and [text.replace(", ", ",") for text in flags] != names:
        yield Column("flags", "l", [*map(printable, flags)])
    yield Column("n", "l", [*map(wording.count_text, variants)])


def _flags(variants: Sequence[VariantResult]) -> list[dict[str, str]]:
    """For each variant the flags that it sets and that are not the same in all."""
    texts = [{n: to_text(value) for n, value in v.flags.items()} for v in variants]
    names = dict.fromkeys(name for each in texts for name in each)
    differing = [n for n in names if len({each.get(n) for each in texts}) > 1]
    return [{n: each[n] for n in differing if n in each} for each in texts]


def _metric_column(
    variants: Sequence[VariantResult],
    metric: str,
    found: Sequence[_Comparison],
    on_test: bool,
) -> Column:
    cells = [
        wording.mean_text(variant, metric, each.summary, on_test)
        for variant, each in zip(variants, found, strict=True)
    ]
    return Column(heading(metric) + " (test)" * on_test, "r", cells)


def _cost_columns(variants: Sequence[VariantResult]) -> Iterator[Column]:
    costs = [*map(_costs, variants)]
    yield Column("minutes", "r", [_minutes(cost) for cost, _ in costs])
    yield Column("parameters", "r", [f"{n:,}" if n else "" for _, n in costs])


def _minutes(value: float) -> str:
    """A time with two digits or more; "" if it is not known."""
    if math.isnan(value):
        return ""
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _difference_column(
    names: Sequence[str], metric: str, found: Sequence[_Comparison], baseline: str
) -> Column:
    cells = [
        "baseline"
        if name == baseline
        else wording.difference_text(metric, each.difference, each.p_holm)
        for name, each in zip(names, found, strict=True)
    ]
    title = METRICS[metric].title if metric in METRICS else metric
    return Column(f"{title} against the baseline", "l", cells)


def _costs(variant: VariantResult) -> tuple[float, int]:
    """The mean minutes of training of finished runs, and the number of weights."""
    finished = [run.minutes for run in variant.runs if run.state.kind == FINISHED]
    parameters = max((run.state.parameters for run in variant.runs), default=0)
    return summarize(finished).mean, parameters


def _numbers(
    variant: VariantResult, on_test: bool, found: Mapping[str, _Comparison]
) -> dict[str, Number]:
    """A row of `table.csv`."""
    flags = (f"--{name}={to_text(value)}" for name, value in variant.flags.items())
    row: dict[str, Number] = {
        "variant": variant.name,
        "flags": shlex.join(flags),
        "part": "test" if on_test else "validation",
        "seeds": len(variant.runs),
    }
    for metric, (summary, difference, p_holm) in found.items():
        n, mean, low, high, p = difference
        values = summary._asdict() | {"pairs": n, "difference": mean, "low": low}
        values |= {"high": high, "p": p, "p_holm": p_holm}
        row |= {f"{metric}_{name}": value for name, value in values.items()}
    minutes, parameters = _costs(variant)
    return row | {"minutes": minutes, "parameters": parameters or math.nan}
