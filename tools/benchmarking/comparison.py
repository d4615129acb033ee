"""Measures our loop and its peers in turn, each in its own process, in rounds."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import markdown_table, spread

from aelab.system.optional import install_command
from benchmarking.jobs import draw, run_in_process
from benchmarking.machine import describe, machine_text
from benchmarking.recipes import QUICK, SETTINGS, fit_row, row_config, setting_text

_TRIAL_SHARE = 0.25  # of the time of a measurement
_MIN_TRIAL_SECONDS = 1.0
_TRIALS = {"cpu": 2, "gpu": 1}  # of each setting; the faster one counts

_OUTCOMES = {
    "error": "failed: {error}",
    "ms": "{ms:.2f} ms per step",
    "gflops": "{gflops:.2f} GFLOP/s",
}
_HEAD = (
    *("row", "variant", "setting", "images/s", "ms per step"),
    *("time / ours", "share of the limit"),
)
_TRIAL_HEAD = ("row", "variant", "setting", "ms per step")
_VARIANTS = ("ours", "fit", "torch")
_NO_TORCH = f"not measured; to install PyTorch: `{install_command('bench')}`"

Record = dict[str, Any]


def run(flags: Any, folder: Path) -> dict[str, Any]:
    """Determines the settings and measures every round.

    Args:
      flags: of benchmark.py.
      folder: a cache that processes share.

    Returns:
      The report for `--json`: the flags; `machine`; `batch_sizes` and `flops_per_step`
      by row; `chosen`, the setting by "row variant", None if no setting worked; and the
      measurements, `trials` of settings and `records` of the rounds. Each has `row`,
      empty for the arithmetic limit; `variant`: ours, fit, torch or limit; `round`,
      from 1, if it is not a trial; `setting`, if it is not the limit; and the result.
    """
    device, rounds, seconds = flags.device, flags.rounds, flags.seconds
    report = {"machine": describe(device), "device": device, "rounds": rounds}
    report |= {"seconds": seconds, "is_quick": flags.mode == "quick"}
    batch_sizes = {row: row_config(row).batch_size for row in flags.rows}
    report |= {"batch_sizes": batch_sizes, "chosen": {}, "flops_per_step": {}}
    images = str(draw(flags.examples, folder))

    def measure(number: int, row: str, variant: str, **job: Any) -> Record:
        """Runs a job in a round, or in a trial if `number` is 0; prints the result."""
        about: Record = {"row": row, "variant": variant}
        turn, words = "trial", variant
        if number:
            about["round"], turn = number, f"round {number} of {rounds}"
        if row:
            setting = about["setting"] = job["setting"]
            job |= {"images": images, "config": asdict(row_config(row))}
            words = f"{row}, {variant}, {setting_text(variant, setting)}"
        result = run_in_process({"kind": variant, "device": device} | job, folder)
        report["flops_per_step"] |= result.pop("flops", {})
        outcome = next(text for name, text in _OUTCOMES.items() if name in result)
        print(f"{turn}: {words}: {outcome.format(**result)}", flush=True)
        return about | result

    has_torch = report["machine"]["versions"]["torch"] is not None
    tasks = dict.fromkeys(  # two rows may share one
        (fit_row(row, device) if variant == "fit" else row, variant)
        for row in flags.rows
        for variant in _VARIANTS[: 2 + has_torch]
    )
    settings = {variant: by_device[device] for variant, by_device in SETTINGS.items()}
    if report["is_quick"]:
        settings = {variant: [setting] for variant, setting in QUICK.items()}
    trial_seconds = max(seconds * _TRIAL_SHARE, _MIN_TRIAL_SECONDS)
    report["trials"] = [
        measure(0, *task, setting=setting, seconds=trial_seconds)
        for _ in range(_TRIALS[device])
        for task in tasks
        if len(settings[task[1]]) > 1
        for setting in settings[task[1]]
    ]
    for task in tasks:
        tried = records_of(report["trials"], *task)
        setting = fastest(tried) if tried else settings[task[1]][0]
        report["chosen"][" ".join(task)] = setting
    report["records"] = []
    configs = {row: asdict(row_config(row)) for row in flags.rows}
    for number in range(1, rounds + 1):
        limit = measure(number, "", "limit", configs=configs, seconds=seconds)
        report["records"].append(limit)
        for task in tasks:
            setting = report["chosen"][" ".join(task)]
            if setting is not None:
                record = measure(number, *task, setting=setting, seconds=seconds)
                report["records"].append(record)
    return report


def fastest(records: Sequence[Record]) -> dict[str, Any] | None:
    """The setting of the fastest measurement, None if every one failed."""
    timed = [record for record in records if "ms" in record]
    return min(timed, key=lambda record: record["ms"])["setting"] if timed else None


def records_of(records: Sequence[Record], row: str, variant: str) -> list[Record]:
    """The records of a row's variant, in order."""
    return [r for r in records if (r["row"], r["variant"]) == (row, variant)]


def text(report: dict[str, Any]) -> str:
    """The table of a report, with the explanations that it needs."""
    tasks = [(row, variant) for row in report["batch_sizes"] for variant in _VARIANTS]
    failures = []
    for row, variant in tasks:
        records = _records(report, row, variant)
        errors, count = _values(records, "error"), len(records)
        if 0 < len(errors) < count:
            ratio = f"{len(errors)} of {count} rounds failed"
            failures.append(f"{row}, {variant}: {ratio}: {errors[-1]}")
    parts = [
        markdown_table(_HEAD, (_cells(report, *task) for task in tasks)),
        _explanation(report),
        machine_text(report["machine"]),
        "\n".join(failures),
    ]
    if report["trials"]:
        trials = markdown_table(_TRIAL_HEAD, map(_trial_cells, report["trials"]))
        parts += ["Settings that were tried briefly:", trials]
    if report["is_quick"]:
        parts.insert(
            0,
            f"This is the report of one short round, {report['seconds']:g} seconds per "
            "process. The peers' settings may not be their fastest. It shows that "
            "everything runs; a longer measurement may give other numbers.",
        )
    return "\n\n".join(filter(None, parts))


def _values(records: Sequence[Record], key: str) -> list[Any]:
    return [record[key] for record in records if key in record]


def _records(report: dict[str, Any], row: str, variant: str) -> list[Record]:
    """A row's records of a variant from the rounds, or else from the trials."""
    task = fit_row(row, report["device"]) if variant == "fit" else row, variant
    return records_of(report["records"], *task) or records_of(report["trials"], *task)


def _cells(report: dict[str, Any], row: str, variant: str) -> list[str]:
    """A line of the table."""
    if variant == "torch" and report["machine"]["versions"]["torch"] is None:
        return [row, variant, _NO_TORCH, *[""] * 4]
    records = _records(report, row, variant)
    times = _values(records, "ms")
    if not times:
        error = records[-1]["error"] if records else "not measured"
        return [row, variant, f"failed: {error}", *[""] * 4]
    setting = setting_text(variant, records[-1]["setting"])
    if variant == "fit" and fit_row(row, report["device"]) != row:
        setting = f"float32, {setting}"
    middle, share = statistics.median(times), ""
    ours = _values(_records(report, row, "ours"), "ms")
    speeds = _values(records_of(report["records"], "", "limit"), "gflops")
    if speeds and row in report["flops_per_step"]:
        limit = report["flops_per_step"][row] / statistics.median(speeds) / 1e6  # in ms
        share = f"{limit / middle:.1%}"
    return [
        *(row, variant, setting),
        f"{report['batch_sizes'][row] / middle * 1e3:,.0f}",
        spread(times),
        f"{middle / statistics.median(ours):.2f}" if ours else "",
        share,
    ]


def _trial_cells(trial: Record) -> list[str]:
    """A line of the table of trials."""
    result = f"{trial['ms']:.2f}" if "ms" in trial else f"failed: {trial['error']}"
    setting = setting_text(trial["variant"], trial["setting"])
    return [trial["row"], trial["variant"], setting, result]


def _explanation(report: dict[str, Any]) -> str:
    """The meaning of the columns."""
    limits = records_of(report["records"], "", "limit")
    if speeds := _values(limits, "gflops"):
        speed = f"{spread(speeds, 1)} GFLOP/s"
    else:
        speed = "not measured" + (f" ({limits[-1]['error']})" if limits else "")
    number, seconds = report["rounds"], report["seconds"]
    rounds = f"{number} rounds in turn" if number > 1 else "one round"
    counts = report["flops_per_step"].items()
    flops = ", ".join(f"{row} {count / 1e9:.3g}" for row, count in counts)
    on = " on all cores" if report["device"] == "cpu" else " (TF32 if available)"
    return (
        f"Medians of {rounds} (minimum to maximum). Each measurement is a process of "
        f"its own and lasts {seconds:g} seconds, without start and compilation. "
        "Our loop draws new noise for each step and runs the whole input pipeline; the "
        "peers keep one fixed noisy copy in memory. A ratio above 1 means that our "
        f"loop takes less time. The limit is a float32 matrix product{on}: {speed}. "
        "The FLOPs are counted for the stock layers, so a share above 100% is possible "
        "with fewer operations or less precision."
        + (f" GFLOP per step: {flops}." if flops else "")
    )
