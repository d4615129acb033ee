"""Measures our loop and its peers in turn, each in its own process, in rounds."""

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from common import markdown_table, spread

from aelab.system.optional import install_command
from benchmarking.jobs import run_in_process
from benchmarking.machine import machine_text
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


@dataclasses.dataclass
class Comparison:
    """The conditions of a comparison, and its results after `run`.

    Trials determine the settings; `records` are the measurements of the rounds. Each of
    both is a dict with the result of a job (`ms`, `steps` and so on, or `error`), and:
      row: a key of `ROWS`; empty for the arithmetic limit.
      variant: ours, fit, torch or limit.
      round: from 1; only in a round.
      setting: the setting of the variant, which the limit does not have.

    Attributes:
      machine: see `machine.describe`.
      device: cpu or gpu.
      seconds: duration of each measurement.
      is_quick: True to use the settings in `QUICK` without trials.
      batch_sizes: by row, which is a key of `ROWS`.
      chosen: the setting by "row variant"; None if no setting worked.
      flops_per_step: by row.
    """

    machine: dict[str, Any]
    device: str
    rounds: int
    seconds: float
    is_quick: bool
    batch_sizes: dict[str, int]
    chosen: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    flops_per_step: dict[str, int] = field(default_factory=dict)
    trials: list[Record] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def run(self, images: Path, folder: Path) -> None:
        """Determines the settings and measures every round.

        Args:
          images: .npy file of the training images.
          folder: a cache that processes share.
        """
        common: dict[str, Any] = {"images": str(images)}
        common["seconds"] = max(self.seconds * _TRIAL_SHARE, _MIN_TRIAL_SECONDS)
        settings = {task: self._settings(task) for task in self._tasks()}
        self.trials = [
            self._measure(0, *task, common | {"setting": setting}, folder)
            for _ in range(_TRIALS[self.device])
            for task, several in settings.items()
            if len(several) > 1
            for setting in several
        ]
        chosen = {
            task: several[0]
            if len(several) == 1
            else fastest(records_of(self.trials, *task))
            for task, several in settings.items()
        }
        self.chosen = {" ".join(task): setting for task, setting in chosen.items()}
        common["seconds"] = self.seconds
        configs = {row: asdict(row_config(row)) for row in self.batch_sizes}
        limit = {"configs": configs, "seconds": self.seconds}
        for number in range(1, self.rounds + 1):
            self.records.append(self._measure(number, "", "limit", limit, folder))
            self.records += [
                self._measure(number, *task, common | {"setting": setting}, folder)
                for task, setting in chosen.items()
                if setting is not None
            ]

    def _tasks(self) -> list[tuple[str, str]]:
        """Rows and variants of a round, in order, each once even if two rows share."""
        has_torch = self.machine["versions"]["torch"] is not None
        tasks = [
            (fit_row(row, self.device) if variant == "fit" else row, variant)
            for row in self.batch_sizes
            for variant in _VARIANTS[: 2 + has_torch]
        ]
        return list(dict.fromkeys(tasks))

    def _settings(self, task: tuple[str, str]) -> list[dict[str, Any]]:
        """The settings to choose from."""
        return [QUICK[task[1]]] if self.is_quick else SETTINGS[task[1]][self.device]

    def _measure(
        self, number: int, row: str, variant: str, job: dict[str, Any], folder: Path
    ) -> Record:
        """Runs a job in a round, or in a trial if `number` is 0; prints the result."""
        job = {"kind": variant, "device": self.device} | job
        about: Record = {"row": row, "variant": variant}
        turn, words = "trial", variant
        if number:
            about["round"], turn = number, f"round {number} of {self.rounds}"
        if row:
            about["setting"] = job["setting"]
            job["config"] = asdict(row_config(row))
            words = f"{row}, {variant}, {setting_text(variant, job['setting'])}"
        result = run_in_process(job, folder)
        self.flops_per_step |= result.pop("flops", {})
        outcome = next(text for name, text in _OUTCOMES.items() if name in result)
        print(f"{turn}: {words}: {outcome.format(**result)}", flush=True)
        return about | result


def fastest(records: Sequence[Record]) -> dict[str, Any] | None:
    """The setting of the fastest measurement, None if every one failed."""
    timed = [record for record in records if "ms" in record]
    return min(timed, key=lambda record: record["ms"])["setting"] if timed else None


def records_of(records: Sequence[Record], row: str, variant: str) -> list[Record]:
    """The records of a row's variant, in order."""
    return [r for r in records if (r["row"], r["variant"]) == (row, variant)]


def text(result: Comparison) -> str:
    """The table of a comparison, with the explanations that it needs."""
    tasks = [(row, variant) for row in result.batch_sizes for variant in _VARIANTS]
    parts = [
        markdown_table(_HEAD, (_cells(result, *task) for task in tasks)),
        _explanation(result),
        machine_text(result.machine),
        "\n".join(filter(None, (_failures(result, *task) for task in tasks))),
    ]
    if result.trials:
        trials = markdown_table(_TRIAL_HEAD, map(_trial_cells, result.trials))
        parts += ["Settings that were tried briefly:", trials]
    if result.is_quick:
        parts.insert(
            0,
            f"This is the report of one short round, {result.seconds:g} seconds per "
            "process. The peers' settings may not be their fastest. It shows that "
            "everything runs; a longer measurement may give other numbers.",
        )
    return "\n\n".join(filter(None, parts))


def _values(records: Sequence[Record], key: str) -> list[Any]:
    return [record[key] for record in records if key in record]


def _records(result: Comparison, row: str, variant: str) -> list[Record]:
    """A row's records of a variant from the rounds, or else from the trials."""
    measured = fit_row(row, result.device) if variant == "fit" else row
    return records_of(result.records, measured, variant) or records_of(
        result.trials, measured, variant
    )


def _cells(result: Comparison, row: str, variant: str) -> list[str]:
    """A line of the table."""
    if variant == "torch" and result.machine["versions"]["torch"] is None:
        return [row, variant, _NO_TORCH, *[""] * 4]
    records = _records(result, row, variant)
    times = _values(records, "ms")
    if not times:
        error = records[-1]["error"] if records else "not measured"
        return [row, variant, f"failed: {error}", *[""] * 4]
    setting = setting_text(variant, records[-1]["setting"])
    if variant == "fit" and fit_row(row, result.device) != row:
        setting = f"float32, {setting}"
    middle = statistics.median(times)
    ours = _values(_records(result, row, "ours"), "ms")
    return [
        *(row, variant, setting),
        f"{result.batch_sizes[row] / middle * 1e3:,.0f}",
        spread(times),
        f"{middle / statistics.median(ours):.2f}" if ours else "",
        _share(result, row, middle),
    ]


def _share(result: Comparison, row: str, milliseconds: float) -> str:
    """The time of the arithmetic as a percentage of `milliseconds`."""
    speeds = _values(records_of(result.records, "", "limit"), "gflops")
    if not speeds or row not in result.flops_per_step:
        return ""
    limit = result.flops_per_step[row] / statistics.median(speeds) / 1e6
    return f"{limit / milliseconds:.1%}"


def _failures(result: Comparison, row: str, variant: str) -> str:
    """A sentence if some rounds of a variant failed, but not all."""
    records = _records(result, row, variant)
    errors, count = _values(records, "error"), len(records)
    if 0 < len(errors) < count:
        return f"{row}, {variant}: {len(errors)} of {count} rounds failed: {errors[-1]}"
    return ""


def _trial_cells(trial: Record) -> list[str]:
    """A line of the table of trials."""
    result = f"{trial['ms']:.2f}" if "ms" in trial else f"failed: {trial['error']}"
    setting = setting_text(trial["variant"], trial["setting"])
    return [trial["row"], trial["variant"], setting, result]


def _explanation(result: Comparison) -> str:
    """The meaning of the columns."""
    limits = records_of(result.records, "", "limit")
    if speeds := _values(limits, "gflops"):
        speed = f"{spread(speeds, 1)} GFLOP/s"
    else:
        speed = "not measured" + (f" ({limits[-1]['error']})" if limits else "")
    number = result.rounds
    rounds = f"{number} rounds in turn" if number > 1 else "one round"
    counts = result.flops_per_step.items()
    flops = ", ".join(f"{row} {count / 1e9:.3g}" for row, count in counts)
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
