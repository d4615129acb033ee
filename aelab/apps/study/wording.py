"""Results of a study in words: cells of its table, and the table's caption."""

from collections.abc import Sequence

from aelab.apps.study.results import VariantResult
from aelab.apps.study.state import DIVERGED, FINISHED, PRUNED
from aelab.apps.study.statistics import SIGNIFICANCE, Difference, Summary
from aelab.metric_info import METRICS, format_value

_DIRECTIONS = {
    "higher": ("better", "worse"),
    "lower": ("worse", "better"),
    "": ("higher", "lower"),
}


def count_text(variant: VariantResult) -> str:
    """How many seeds have finished, and which have diverged.

    For example "3", "2 of 3 seeds" or "1 of 3 diverged, at step 120". Of a trial that a
    search has pruned: "pruned at step 120".
    """
    pruned = [run.state.step for run in variant.runs if run.state.kind == PRUNED]
    if pruned:
        return f"pruned at step {pruned[0]}"
    kinds, total = [run.state.kind for run in variant.runs], len(variant.runs)
    finished, diverged = kinds.count(FINISHED), kinds.count(DIVERGED)
    parts = []
    if finished + diverged < total:
        parts.append(f"{finished} of {total} {_seeds(total)}")
    if diverged:
        steps = [str(r.state.step) for r in variant.runs if r.state.kind == DIVERGED]
        where = f"{'step' if diverged == 1 else 'steps'} {', '.join(steps)}"
        count = f"{diverged} of {total} diverged," if total > 1 else "diverged"
        parts.append(f"{count} at {where}")
    return "; ".join(parts) or str(total)


def mean_text(
    variant: VariantResult, metric: str, summary: Summary, on_test: bool
) -> str:
    """Mean ± standard deviation, or why there is none; "" for a run to come."""
    kinds = [run.state.kind for run in variant.runs]
    finished = kinds.count(FINISHED)
    if not summary.n and finished:
        return "not evaluated" if on_test else "not known"
    if not summary.n:
        return count_text(variant) if DIVERGED in kinds else ""
    text = summary_text(metric, summary)
    return text if summary.n == finished else f"{text} ({summary.n} of {finished})"


def summary_text(metric: str, summary: Summary) -> str:
    """Mean ± standard deviation, for example "18.91 ± 0.03"; of one seed its value."""
    mean = format_value(metric, summary.mean)
    return mean if summary.n < 2 else f"{mean} ± {_number(metric, summary.sd)}"


def difference_text(metric: str, difference: Difference, corrected_p: float) -> str:
    """A difference in words; "" if there are too few seeds for an interval.

    For example "better by 0.21 dB (0.15 to 0.27)" if `corrected_p` is below 0.05, else
    "no difference seen with 3 seeds (-0.02 to 0.05 dB)". If a difference is significant
    only without the correction for the number of variants, the cell says so.
    """
    n, mean, low, high, _ = difference
    if n < 2:
        return ""
    info = METRICS.get(metric)
    unit = f" {info.unit}" if info and info.unit else ""
    if not corrected_p < SIGNIFICANCE:
        interval = f"{_number(metric, low)} to {_number(metric, high)}{unit}"
        corrected = " after correction" * (low * high > 0)
        return f"no difference seen with {n} seeds{corrected} ({interval})"
    up, down = _DIRECTIONS[info.better if info else ""]
    ends = sorted([abs(low), abs(high)])
    interval = " to ".join(_number(metric, end) for end in ends)
    word = up if mean > 0 else down
    return f"{word} by {_number(metric, abs(mean))}{unit} ({interval})"


def part_text(on_test: bool, were_chosen: Sequence[bool]) -> str:
    """The part of the data set that a table shows, for its caption.

    Args:
      on_test: whether it is the test part, and not what validates.
      were_chosen: for each variant whether the test part validates, and so has chosen
        its checkpoints.
    """
    if all(were_chosen):
        return "the test part, by which it was chosen"
    if on_test:
        also = ", which for some variants also chose the checkpoint"
        return "the test part" + also * any(were_chosen)
    if any(were_chosen):
        return "the part that validates, in some variants the test part"
    return "the validation part"


def caption(
    part: str,
    seeds: int,
    baseline: str,
    differences: Sequence[Sequence[Difference]],
    is_search: bool,
) -> str:
    """Sentences on the table.

    Args:
      part: of the data set, for example `the validation part`.
      seeds: of each variant.
      baseline: its name.
      differences: for each metric, of the variants; empty if there is only one variant.
      is_search: whether the variants are the trials of a search.
    """
    counts = [sum(d.n > 1 for d in of_metric) for of_metric in differences]
    compared = max(counts, default=0)
    lines = [
        f"Metrics of the best checkpoint on {part}: mean ± standard deviation (n-1), "
        f"{seeds} {_seeds(seeds)} per variant."
    ]
    if compared:
        lines.append(
            f"Differences from {baseline} are paired over the seeds that both "
            "finished, with 95 % intervals by Student's t."
        )
    elif differences and seeds > 1:
        lines.append(f"No variant has two seeds to compare with {baseline}.")
    elif differences:
        lines.append("One seed does not show which differences are chance.")
    if compared > 1:
        each = ", for each metric separately" if len(differences) > 1 else ""
        lines.append(
            f"Verdicts are corrected by Holm for {compared} variants{each}; the "
            "intervals are not."
        )
    if is_search:
        lines.append("The best of many trials looks better on validation than it is.")
    return " ".join(lines)


def _seeds(count: int) -> str:
    return "seed" if count == 1 else "seeds"


def _number(metric: str, value: float) -> str:
    """A value in the metric's digits; with one digit if they would be zeros only."""
    text = format_value(metric, value)
    return text if text.strip("-0.,") or not value else f"{value:.1g}"
