"""Measures our loop and its peers in turn, each in its own process, in rounds."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarking.jobs import run_in_process
from benchmarking.machine import Machine
from benchmarking.recipes import (
    QUICK,
    SETTINGS,
    Setting,
    fit_row,
    row_config,
    setting_text,
)

_TRIAL_SHARE = 0.25  # of the time of a measurement
_MIN_TRIAL_SECONDS = 1.0
_TRIALS = {"cpu": 2, "gpu": 1}  # of each setting; the faster one counts

Task = tuple[str, str]  # row and variant


@dataclasses.dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
      row: a key of `ROWS`; empty for the arithmetic limit.
      variant: ours, fit, torch or limit.
      round: from 1; None for a trial.
      setting: the setting of the variant.
      ms: milliseconds per step.
      steps: number of measured steps.
      gflops: of the limit, 10^9 FLOP/s.
      error: the reason for a failure.
    """

    row: str
    variant: str
    round: int | None = None
    setting: Setting | None = None
    ms: float | None = None
    steps: int | None = None
    gflops: float | None = None
    error: str | None = None


@dataclasses.dataclass
class Comparison:
    """The conditions of a comparison, and its results after `run`.

    Attributes:
      machine: the machine.
      device: cpu or gpu.
      rounds: number of rounds.
      seconds: duration of each measurement.
      is_quick: True to use the settings in `QUICK` without trials.
      batch_sizes: by row, which is a key of `ROWS`.
      chosen: the setting by "row variant"; None if no setting worked.
      flops_per_step: by row.
      trials: measurements of the settings.
      records: measurements of the rounds.
    """

    machine: Machine
    device: str
    rounds: int
    seconds: float
    is_quick: bool
    batch_sizes: dict[str, int]
    chosen: dict[str, Setting | None] = dataclasses.field(default_factory=dict)
    flops_per_step: dict[str, int] = dataclasses.field(default_factory=dict)
    trials: list[Record] = dataclasses.field(default_factory=list)
    records: list[Record] = dataclasses.field(default_factory=list)

    def run(self, images: Path, folder: Path) -> None:
        """Determines the settings and measures every round.

        Args:
          images: .npy file of the training images.
          folder: a cache that processes share.
        """
        common = {"device": self.device, "images": str(images)}
        settings = {task: self._settings(task) for task in self._tasks()}
        seconds = max(self.seconds * _TRIAL_SHARE, _MIN_TRIAL_SECONDS)
        self.trials = [
            self._measure(None, task, setting, common | {"seconds": seconds}, folder)
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
        for number in range(1, self.rounds + 1):
            self._measure_limit(number, folder)
            self.records += [
                self._measure(number, task, setting, common, folder)
                for task, setting in chosen.items()
                if setting is not None
            ]

    def to_json(self) -> dict[str, Any]:
        """Everything for `--json`; a record has only the attributes with a value."""
        result = dataclasses.asdict(self)
        for name in ("trials", "records"):
            result[name] = [
                {key: value for key, value in record.items() if value is not None}
                for record in result[name]
            ]
        return result

    def _tasks(self) -> list[Task]:
        """The tasks of a round in order; a task that two rows share occurs once."""
        has_torch = self.machine.versions["torch"] is not None
        tasks = [
            (fit_row(row, self.device) if variant == "fit" else row, variant)
            for row in self.batch_sizes
            for variant in ["ours", "fit"] + ["torch"] * has_torch
        ]
        return list(dict.fromkeys(tasks))

    def _settings(self, task: Task) -> list[Setting]:
        """The settings to choose from."""
        return [QUICK[task[1]]] if self.is_quick else SETTINGS[task[1]][self.device]

    def _measure(
        self,
        number: int | None,
        task: Task,
        setting: Setting,
        common: dict[str, Any],
        folder: Path,
    ) -> Record:
        """Measures a task and prints the result; `common` is the rest of the job."""
        row, variant = task
        config = dataclasses.asdict(row_config(row))
        job = common | {"kind": variant, "config": config, "setting": setting}
        result = run_in_process(job, folder)
        words = ", ".join(filter(None, (*task, setting_text(variant, setting))))
        self._print(number, words, result)
        return Record(row, variant, number, setting, **result)

    def _measure_limit(self, number: int, folder: Path) -> None:
        """Measures the arithmetic limit, and counts the FLOPs of a step."""
        configs = {row: dataclasses.asdict(row_config(row)) for row in self.batch_sizes}
        job = {"kind": "limit", "device": self.device, "configs": configs}
        result = run_in_process(job | {"seconds": self.seconds}, folder)
        self._print(number, "limit", result)
        self.flops_per_step |= result.pop("flops", {})
        self.records.append(Record("", "limit", number, **result))

    def _print(self, number: int | None, words: str, result: dict[str, Any]) -> None:
        """Prints a line of progress."""
        texts = {"error": "failed: {}", "ms": "{:.2f} ms per step"}
        texts["gflops"] = "{:.2f} GFLOP/s"
        name = next(name for name in texts if name in result)
        turn = f"round {number} of {self.rounds}" if number else "trial"
        print(f"{turn}: {words}: {texts[name].format(result[name])}", flush=True)


def fastest(records: Sequence[Record]) -> Setting | None:
    """The setting of the fastest measurement, None if every one failed."""
    timed = [record for record in records if record.ms is not None]
    return min(timed, key=lambda record: record.ms).setting if timed else None


def records_of(records: Sequence[Record], row: str, variant: str) -> list[Record]:
    """The records of a row's variant, in order."""
    return [r for r in records if (r.row, r.variant) == (row, variant)]
