"""Made-up results of studies."""

import numpy as np

from aelab.apps.study.results import RunResult, VariantResult
from aelab.apps.study.state import FINISHED, Curve, RunState


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
