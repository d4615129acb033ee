"""The tables, from what was measured."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarking.recipes import (
    Record,
    fit_row,
    of_task,
    setting_text,
    values_of,
)

_HEAD = (
    *("row", "variant", "setting", "images/s", "ms a step"),
    *("time / ours", "share of the limit"),
)
_VARIANTS = ("ours", "fit", "torch")
_NO_TORCH = "not measured: `pip install -e '.[bench]'`"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
        for cells in lines
    )


def spread(values: list[float], digits: int = 2) -> str:
    """Median, smallest and largest, as `2.00 (1.50 to 3.00)`."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def machine_text(machine: dict[str, Any]) -> str:
    """CPU, cores, GPU and versions in a line."""
    versions = machine["versions"]
    known = ", ".join(f"{n} {v}" for n, v in versions.items() if v is not None)
    gpu = f" GPU: {machine['gpu']}." if machine["gpu"] else ""
    cpu = f"CPU: {machine['cpu']}, {machine['cores']} cores."
    return f"{cpu}{gpu} Versions: {known}."


def comparison_text(report: dict[str, Any]) -> str:
    """The table of a comparison, and what one must know to read it."""
    rows = report["batch_sizes"]
    cells = [_cells(report, row, variant) for row in rows for variant in _VARIANTS]
    parts = [markdown(_HEAD, cells), _reading(report), machine_text(report["machine"])]
    failures = [
        line for row in rows for v in _VARIANTS for line in _failures(report, row, v)
    ]
    if failures:
        parts.append("\n".join(failures))
    if report["trials"]:
        parts.append("Settings that were tried, briefly:")
        parts.append(
            markdown(("row", "variant", "setting", "ms a step"), _tried(report))
        )
    if report["is_quick"]:
        parts.insert(
            0,
            f"This is the report of one short round, {report['seconds']:g} seconds a "
            "process, with settings of the peers that may not be their fastest: it "
            "shows that all runs, and figures that a longer one may not confirm.",
        )
    return "\n\n".join(parts)


def _records(report: dict[str, Any], row: str, variant: str) -> list[Record]:
    """The rounds' records of a row's variant; those of the trials if it has none."""
    measured = fit_row(row, report["device"]) if variant == "fit" else row
    found = of_task(report["records"], measured, variant)
    return found or of_task(report["trials"], measured, variant)


def _cells(report: dict[str, Any], row: str, variant: str) -> list[str]:
    """A line of the table."""
    if variant == "torch" and report["machine"]["versions"]["torch"] is None:
        return [row, variant, _NO_TORCH, "", "", "", ""]
    records = _records(report, row, variant)
    times = values_of(records, "ms")
    if not times:
        errors = [record["error"] for record in records] or ["not measured"]
        return [row, variant, f"failed: {errors[-1]}", "", "", "", ""]
    setting = setting_text(variant, records[-1]["setting"])
    if variant == "fit" and fit_row(row, report["device"]) != row:
        setting = f"float32, {setting}"
    middle = statistics.median(times)
    ours = values_of(_records(report, row, "ours"), "ms")
    return [
        *(row, variant, setting),
        f"{report['batch_sizes'][row] / middle * 1e3:,.0f}",
        spread(times),
        f"{middle / statistics.median(ours):.2f}" if ours else "",
        _share(report, row, middle),
    ]


def _share(report: dict[str, Any], row: str, milliseconds: float) -> str:
    """How much of the time the arithmetic alone would take, in percent."""
    limits = values_of(of_task(report["records"], "", "limit"), "gflops")
    if not limits or row not in report["flops_per_step"]:
        return ""
    least = report["flops_per_step"][row] / statistics.median(limits) / 1e6
    return f"{least / milliseconds:.1%}"


def _failures(report: dict[str, Any], row: str, variant: str) -> list[str]:
    """A sentence if some rounds of a variant failed, but not all."""
    records = _records(report, row, variant)
    errors = [record["error"] for record in records if "error" in record]
    if not errors or len(errors) == len(records):
        return []
    return [
        f"{row}, {variant}: {len(errors)} of {len(records)} rounds failed: {errors[-1]}"
    ]


def _tried(report: dict[str, Any]) -> list[list[str]]:
    """The lines of the table of settings."""
    return [
        [
            *(record["row"], record["variant"]),
            setting_text(record["variant"], record["setting"]),
            f"{record['ms']:.2f}" if "ms" in record else f"failed: {record['error']}",
        ]
        for record in report["trials"]
    ]


def _reading(report: dict[str, Any]) -> str:
    """What the columns mean."""
    number = report["rounds"]
    limits = of_task(report["records"], "", "limit")
    speeds = values_of(limits, "gflops")
    speed = f"{spread(speeds, 1)} GFLOP/s" if speeds else "not measured"
    if not speeds and limits:
        speed = f"not measured ({limits[-1]['error']})"
    rounds = f"{number} rounds in turn" if number > 1 else "one round"
    flops = ", ".join(
        f"{row} {count / 1e9:.3g}" for row, count in report["flops_per_step"].items()
    )
    on = " on all cores" if report["device"] == "cpu" else " (TF32 where there is)"
    lines = [
        f"Medians of {rounds} (smallest to largest), each in a process of its own, "
        f"{report['seconds']:g} seconds long, without start and compilation.",
        "Ours draws fresh noise for each step and goes through the whole input "
        "pipeline; the peers keep one fixed noisy copy in memory.",
        "A ratio above 1 means that ours takes less time.",
        f"The limit is a float32 matrix product{on}: {speed}. FLOPs are those "
        "of the stock layers, so a share above 100% is possible with fewer operations "
        "or less precision.",
    ]
    if flops:
        lines.append(f"GFLOP a step: {flops}.")
    return " ".join(lines)
