"""Our loop and its peers, each in a process of its own, in turn, in several rounds."""

import dataclasses
from pathlib import Path
from typing import Any

from benchmarking import machine
from benchmarking.children import measure_apart
from benchmarking.recipes import (
    QUICK,
    SETTINGS,
    Record,
    Setting,
    fastest,
    fields_of,
    fit_row,
    of_task,
    row_config,
    setting_text,
)

_TRIAL_SHARE = 0.25  # of the time of a measurement
_TRIAL_SECONDS = 1.0  # at least
_TRIALS = {"cpu": 2, "gpu": 1}  # of each setting, the better of which counts

Task = tuple[str, str]  # row and variant


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
      device: cpu or gpu.
      rows: keys of `ROWS`.
      rounds: how often each is measured.
      seconds: for how long each time.
      is_quick: whether to take the peers' settings without trying which is faster.
      images: .npy file of the images to train on.
      folder: where processes leave what later ones can use.
    """

    device: str
    rows: list[str]
    rounds: int
    seconds: float
    is_quick: bool
    images: Path
    folder: Path

    def run(self) -> dict[str, Any]:
        """Measures all; returns what `table.comparison_text` makes a table of."""
        about = machine.describe(self.device)
        tasks = self._tasks(about["versions"]["torch"] is not None)
        trials = [] if self.is_quick else self._try_settings(tasks)
        chosen = {task: self._choice(task, trials) for task in tasks}
        records: list[Record] = []
        flops: dict[str, int] = {}
        for number in range(1, self.rounds + 1):
            name = f"round {number} of {self.rounds}"
            found = self._limit(name)
            flops |= found.pop("flops", {})
            records.append({"round": number, "row": "", "variant": "limit", **found})
            for task, setting in chosen.items():
                if setting is not None:
                    found = self._measure(name, task, setting, self.seconds)
                    records.append({"round": number, **found})
        return {
            "machine": about,
            "device": self.device,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "is_quick": self.is_quick,
            "batch_sizes": {row: row_config(row).batch_size for row in self.rows},
            "chosen": {f"{row} {kind}": s for (row, kind), s in chosen.items()},
            "flops_per_step": flops,
            "trials": trials,
            "records": records,
        }

    def _tasks(self, has_torch: bool) -> list[Task]:
        """What is measured in a round, in order; what two rows share, once."""
        variants = ["ours", "fit"] + ["torch"] * has_torch
        tasks = [
            (fit_row(row, self.device) if variant == "fit" else row, variant)
            for row in self.rows
            for variant in variants
        ]
        return list(dict.fromkeys(tasks))

    def _try_settings(self, tasks: list[Task]) -> list[Record]:
        """Measures every setting that there is a choice of, for a short time."""
        seconds = max(self.seconds * _TRIAL_SHARE, _TRIAL_SECONDS)
        return [
            self._measure("trial", task, setting, seconds)
            for _ in range(_TRIALS[self.device])
            for task in tasks
            if len(SETTINGS[task[1]][self.device]) > 1
            for setting in SETTINGS[task[1]][self.device]
        ]

    def _choice(self, task: Task, trials: list[Record]) -> Setting | None:
        """The setting to measure in every round, None if none has worked."""
        if self.is_quick:
            return QUICK[task[1]]
        settings = SETTINGS[task[1]][self.device]
        if len(settings) == 1:
            return settings[0]
        return fastest(of_task(trials, *task))

    def _measure(
        self, name: str, task: Task, setting: Setting, seconds: float
    ) -> Record:
        """Measures once, and says what came out."""
        row, variant = task
        job = {
            "kind": variant,
            "device": self.device,
            "config": fields_of(row_config(row)),
            "images": str(self.images),
            "setting": setting,
            "seconds": seconds,
        }
        found = measure_apart(job, self.folder)
        words = ", ".join(filter(None, (row, variant, setting_text(variant, setting))))
        _say(name, words, found, "ms")
        return {"row": row, "variant": variant, "setting": setting, **found}

    def _limit(self, name: str) -> dict[str, Any]:
        """Measures the arithmetic limit, and counts the FLOPs of a step."""
        configs = {row: fields_of(row_config(row)) for row in self.rows}
        job = {"kind": "limit", "device": self.device, "configs": configs}
        job["seconds"] = self.seconds
        found = measure_apart(job, self.folder)
        _say(name, "limit", found, "gflops")
        return found


def _say(name: str, what: str, found: dict[str, Any], unit: str) -> None:
    """Prints a line of progress."""
    failed = f"failed: {found['error']}" if "error" in found else ""
    units = {"ms": "ms a step", "gflops": "GFLOP/s"}
    told = failed or f"{found[unit]:.2f} {units[unit]}"
    print(f"{name}: {what}: {told}", flush=True)
