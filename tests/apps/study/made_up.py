"""Made-up studies, as training leaves them, and their results."""

import json
from pathlib import Path

import numpy as np

from aelab.apps.study.description import make_description
from aelab.apps.study.outputs import Shown, write_description
from aelab.apps.study.results import RunResult, VariantResult
from aelab.apps.study.state import FINISHED, Curve, RunState
from aelab.apps.study.variants import parse_variants
from aelab.config import Config
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.training.plan import Progress

CONFIG = Config(epochs=3, batch_size=8, early_stopping_patience=2)
STEPS = 15  # 3 epochs of 40 images


def write_run(path, step=STEPS, config=CONFIG, **progress):
    """A run at a step, as training leaves it."""
    run = RunDirectory(str(path))
    run.write(
        config, {"train": "40 images, sha256 0", "eval": "", "image_shape": []}, {}
    )
    values = vars(Progress(evaluated_step=step, best_step=5, reference_step=step))
    arrays = {f"progress/{n}": np.asarray(v) for n, v in (values | progress).items()}
    arrays |= {"step": np.asarray(step), "model/a": np.zeros([2, 3], np.float32)}
    checkpoints.save(run.latest, step, arrays)
    return run


def write_study(folder, *vary, seeds=2, psnrs=(), **shown):
    """A study whose first runs have finished, with these PSNRs in dB; returns its runs.

    The first seed of each variant comes before the second seeds.
    """
    fields = {n: getattr(CONFIG, n) for n in ("epochs", "batch_size")}
    description = make_description(fields, parse_variants(vary), seeds)
    shown = {"baseline": description.variants[0].name} | shown
    write_description(str(folder), description, Shown(**shown))
    trials = list(description.trials(str(folder)))
    for trial, psnr in zip(trials, psnrs, strict=False):
        run = write_run(trial.run_dir, config=trial.config)
        line = {"step": 5, "epoch": 1.0, "split": "eval", "loss": 0.5, "psnr": psnr}
        Path(run.metrics_jsonl).write_text(json.dumps(line) + "\n")
    return [Path(trial.run_dir) for trial in trials]


def run(seed, kind=FINISHED, step=1000, tested=None, curve=None, name="x", **best):
    """A run whose best checkpoint has the metrics `best`."""
    return RunResult(
        seed=seed,
        run_dir=f"/studies/lr/runs/{name}/seed-{seed}",
        state=RunState(kind, step, step, 1_234_567),
        curve=curve or Curve(best, [], {}, np.nan),
        minutes=2.0 + seed,
        tested=tested or {},
    )


def variant(name, psnrs, flags=None):
    """A variant whose seeds have finished with these PSNRs, in dB."""
    runs = [run(seed, name=name, psnr=psnr) for seed, psnr in enumerate(psnrs)]
    return VariantResult(name, flags or {}, runs)
