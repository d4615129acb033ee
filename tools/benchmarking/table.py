"""The text of a comparison's result."""

import statistics
from collections.abc import Sequence

from common.markdown import markdown_table

from aelab.system.optional import install_command
from benchmarking.comparison import Comparison, Record, records_of
from benchmarking.recipes import fit_row, setting_text

_HEAD = (
    *("row", "variant", "setting", "images/s", "ms per step"),
    *("time / ours", "share of the limit"),
)
_VARIANTS = ("ours", "fit", "torch")
_NO_TORCH = f"not measured; to install PyTorch: `{install_command('bench')}`"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, minimum and maximum, for example `2.00 (1.50 to 3.00)`."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def comparison_text(result: Comparison) -> str:
    """The table of a comparison, with the explanations that it needs."""
    tasks = [(row, v) for row in result.batch_sizes for v in _VARIANTS]
    parts = [
        markdown_table(_HEAD, (_cells(result, *task) for task in tasks)),
        _explanation(result),
        str(result.machine),
        "\n".join(filter(None, (_failures(result, *task) for task in tasks))),
    ]
    if result.trials:
        parts.append("Settings that were tried briefly:")
        head = ("row", "variant", "setting", "ms per step")
        parts.append(markdown_table(head, map(_trial_cells, result.trials)))
    if result.is_quick:
        parts.insert(
            0,
            f"This is the report of one short round, {result.seconds:g} seconds per "
            "process. The peers' settings may not be their fastest. It shows that "
            "everything runs; a longer measurement may give other numbers.",
        )
    return "\n\n".join(filter(None, parts))


def _records(result: Comparison, row: str, variant: str) -> list[Record]:
    """A row's records of a variant from the rounds, or else from the trials."""
    measured = fit_row(row, result.device) if variant == "fit" else row
    return records_of(result.records, measured, variant) or records_of(
        result.trials, measured, variant
    )


def _times(records: Sequence[Record]) -> list[float]:
    return [record.ms for record in records if record.ms is not None]


def _speeds(result: Comparison) -> list[float]:
    """The limit in each round, in GFLOP/s."""
    limits = records_of(result.records, "", "limit")
    return [limit.gflops for limit in limits if limit.gflops is not None]


def _cells(result: Comparison, row: str, variant: str) -> list[str]:
    """A line of the table."""
    if variant == "torch" and result.machine.versions["torch"] is None:
        return [row, variant, _NO_TORCH, "", "", "", ""]
    records = _records(result, row, variant)
    times = _times(records)
    if not times:
        error = f"failed: {records[-1].error}" if records else "failed: not measured"
        return [row, variant, error, "", "", "", ""]
    setting = setting_text(variant, records[-1].setting)
    if variant == "fit" and fit_row(row, result.device) != row:
        setting = f"float32, {setting}"
    middle = statistics.median(times)
    ours = _times(_records(result, row, "ours"))
    return [
        *(row, variant, setting),
        f"{result.batch_sizes[row] / middle * 1e3:,.0f}",
        spread(times),
        f"{middle / statistics.median(ours):.2f}" if ours else "",
        _share(result, row, middle),
    ]


def _share(result: Comparison, row: str, milliseconds: float) -> str:
    """The time of the arithmetic as a percentage of `milliseconds`."""
    speeds = _speeds(result)
    if not speeds or row not in result.flops_per_step:
        return ""
    limit = result.flops_per_step[row] / statistics.median(speeds) / 1e6
    return f"{limit / milliseconds:.1%}"


def _failures(result: Comparison, row: str, variant: str) -> str:
    """A sentence if some rounds of a variant failed, but not all."""
    records = _records(result, row, variant)
    errors = [record.error for record in records if record.error is not None]
    if not errors or len(errors) == len(records):
        return ""
    return (
        f"{row}, {variant}: {len(errors)} of {len(records)} rounds failed: {errors[-1]}"
    )


def _trial_cells(trial: Record) -> list[str]:
    """A line of the table of trials."""
    result = f"failed: {trial.error}" if trial.ms is None else f"{trial.ms:.2f}"
    setting = setting_text(trial.variant, trial.setting)
    return [trial.row, trial.variant, setting, result]


def _explanation(result: Comparison) -> str:
    """The meaning of the columns."""
    speeds = _speeds(result)
    limits = records_of(result.records, "", "limit")
    speed = f"{spread(speeds, 1)} GFLOP/s" if speeds else "not measured"
    if not speeds and limits:
        speed = f"not measured ({limits[-1].error})"
    number = result.rounds
    rounds = f"{number} rounds in turn" if number > 1 else "one round"
    flops = ", ".join(
        f"{row} {count / 1e9:.3g}" for row, count in result.flops_per_step.items()
    )
    on = " on all cores" if result.device == "cpu" else " (TF32 if available)"
    return (
        f"Medians of {rounds} (minimum to maximum). Each measurement is a process of "
        f"its own and lasts {result.seconds:g} seconds, without start and compilation. "
        "Our loop draws new noise for each step and runs the whole input pipeline; the "
        "peers keep one fixed noisy copy in memory. A ratio above 1 means that our "
        f"loop takes less time. The limit is a float32 matrix product{on}: {speed}. "
        "The FLOPs are counted for the stock layers, so a share above 100% is possible "
        "with fewer operations or less precision."
        + (f" GFLOP per step: {flops}." if flops else "")
    )
