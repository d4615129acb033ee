"""Measures our loop and its peers in turn, each in its own process, in rounds.

The report for `--json` has `trials`, which determine the settings, and `records`, the
measurements of the rounds. Each entry has `row`, empty for the arithmetic limit;
`variant`: ours, fit, torch or limit; `round`, from 1, if it is not a trial; `setting`,
if it is not the limit; and the result.
"""

import functools
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import markdown_table, spread

from aelab.system.optional import install_command
from benchmarking.jobs import draw, run_in_process
from benchmarking.machine import describe, machine_text
from benchmarking.recipes import SETTINGS, measured_row, row_config, setting_text

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
_QUICK_NOTE = (
    "This is the report of one short round, {seconds:g} seconds per process. The "
    "peers' settings may not be their fastest. It shows that everything runs; a longer "
    "measurement may give other numbers."
)

Record = dict[str, Any]
Setting = dict[str, Any]
Task = tuple[str, str]  # row and variant
_LIMIT: Task = ("", "limit")


def run(flags: Any, folder: Path) -> dict[str, Any]:
    """Determines the settings and measures every round.

    `folder` is a cache that processes share. The report has the flags; `machine`;
    `batch_sizes` and `flops_per_step` by row; `chosen`, the setting by "row variant",
    None if no setting worked; `trials` and `records`.
    """
    report = {"machine": describe(flags.device), "device": flags.device}
    report |= {"rounds": flags.rounds, "seconds": flags.seconds}
    report["is_quick"] = flags.mode == "quick"
    report["batch_sizes"] = {row: row_config(row).batch_size for row in flags.rows}
    measure = functools.partial(_measure, flags, draw(flags.examples, folder))
    settings = _settings(flags, report["machine"]["versions"]["torch"] is not None)
    trials = [
        measure(task, setting)
        for _ in range(_TRIALS[flags.device])
        for task, options in settings.items()
        for setting in options
        if len(options) > 1
    ]
    chosen = {
        task: fastest(records_of(trials, *task)) if len(options) > 1 else options[0]
        for task, options in settings.items()
    }
    tasks: dict[Task, Setting | None] = {_LIMIT: {}, **chosen}
    records = [
        measure(task, setting, number)
        for number in range(1, flags.rounds + 1)
        for task, setting in tasks.items()
        if setting is not None
    ]
    flops = [record.pop("flops") for record in records if "flops" in record]
    report["chosen"] = {" ".join(task): setting for task, setting in chosen.items()}
    report["flops_per_step"] = flops[0] if flops else {}
    return report | {"trials": trials, "records": records}


def _settings(flags: Any, has_torch: bool) -> dict[Task, list[Setting]]:
    """The settings to try for each task; several rows may share one of `fit`."""
    choice = "quick" if flags.mode == "quick" else flags.device
    return {
        (measured_row(row, variant, flags.device), variant): SETTINGS[variant][choice]
        for row in flags.rows
        for variant in _VARIANTS[: 2 + has_torch]
    }


def _measure(
    flags: Any, images: Path, task: Task, setting: Setting, number: int = 0
) -> Record:
    """Measures a task in a new process, in a round or, if `number` is 0, a trial."""
    row, variant = task
    about: Record = {"row": row, "variant": variant}
    job: dict[str, Any] = {"kind": variant, "device": flags.device}
    if number:
        about["round"], turn = number, f"round {number} of {flags.rounds}"
        job["seconds"] = flags.seconds
    else:
        turn = "trial"
        job["seconds"] = max(flags.seconds * _TRIAL_SHARE, _MIN_TRIAL_SECONDS)
    if task == _LIMIT:
        words = variant
        job["configs"] = {name: asdict(row_config(name)) for name in flags.rows}
    else:
        about["setting"] = setting
        words = f"{row}, {variant}, {setting_text(variant, setting)}"
        job |= {"setting": setting, "images": str(images)}
        job["config"] = asdict(row_config(row))
    result = run_in_process(job, images.parent)
    outcome = next(text for name, text in _OUTCOMES.items() if name in result)
    print(f"{turn}: {words}: {outcome.format(**result)}", flush=True)
    return about | result


def fastest(records: Sequence[Record]) -> Setting | None:
    """The setting of the fastest measurement, None if every one failed."""
    timed = [record for record in records if "ms" in record]
    return min(timed, key=lambda record: record["ms"])["setting"] if timed else None


def records_of(records: Sequence[Record], row: str, variant: str) -> list[Record]:
    """The records of a row's variant, in order."""
    return [r for r in records if (r["row"], r["variant"]) == (row, variant)]


def text(report: dict[str, Any]) -> str:
    """The table of a report, with the explanations that it needs."""
    tasks = [(row, variant) for row in report["batch_sizes"] for variant in _VARIANTS]
    parts = [
        markdown_table(_HEAD, (_cells(report, *task) for task in tasks)),
        _explanation(report),
        machine_text(report["machine"]),
        "\n".join(filter(None, (_failures(report, *task) for task in tasks))),
    ]
    if report["trials"]:
        trials = markdown_table(_TRIAL_HEAD, map(_trial_cells, report["trials"]))
        parts += ["Settings that were tried briefly:", trials]
    if report["is_quick"]:
        parts.insert(0, _QUICK_NOTE.format(**report))
    return "\n\n".join(filter(None, parts))


def _values(records: Sequence[Record], key: str) -> list[Any]:
    return [record[key] for record in records if key in record]


def _records(report: dict[str, Any], row: str, variant: str) -> list[Record]:
    """A row's records of a variant from the rounds, or else from the trials."""
    task = measured_row(row, variant, report["device"]), variant
    return records_of(report["records"], *task) or records_of(report["trials"], *task)


def _failures(report: dict[str, Any], row: str, variant: str) -> str:
    """A sentence if a variant failed in some rounds but not in all."""
    records = _records(report, row, variant)
    errors, count = _values(records, "error"), len(records)
    if not 0 < len(errors) < count:
        return ""
    return f"{row}, {variant}: {len(errors)} of {count} rounds failed: {errors[-1]}"


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
    if measured_row(row, variant, report["device"]) != row:
        setting = f"float32, {setting}"
    median, share = statistics.median(times), ""
    ours = _values(_records(report, row, "ours"), "ms")
    speeds = _values(records_of(report["records"], *_LIMIT), "gflops")
    if speeds and row in report["flops_per_step"]:
        limit = report["flops_per_step"][row] / statistics.median(speeds) / 1e6  # in ms
        share = f"{limit / median:.1%}"
    speed = f"{report['batch_sizes'][row] / median * 1e3:,.0f}"
    ratio = f"{median / statistics.median(ours):.2f}" if ours else ""
    return [row, variant, setting, speed, spread(times), ratio, share]


def _trial_cells(trial: Record) -> list[str]:
    """A line of the table of trials."""
    setting = setting_text(trial["variant"], trial["setting"])
    result = f"{trial['ms']:.2f}" if "ms" in trial else f"failed: {trial['error']}"
    return [trial["row"], trial["variant"], setting, result]


def _explanation(report: dict[str, Any]) -> str:
    """The meaning of the columns."""
    limits = records_of(report["records"], *_LIMIT)
    speeds = _values(limits, "gflops")
    error = f"not measured ({limits[-1].get('error')})"
    speed = f"{spread(speeds, 1)} GFLOP/s" if speeds else error
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
