"""The results of a study as `study.json` holds them."""

import math
from collections.abc import Sequence
from typing import Any

from aelab.apps.study.results import RunResult, VariantResult
from aelab.apps.study.statistics import summarize


def results(
    variants: Sequence[VariantResult], objective: str, metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """The value of `trials`.

    `metrics` are of the part that validates, first the objective. `test_metrics`, of
    the test part, is there only if a run of the variant was evaluated. `each` has a
    value per run, null if it is not known.
    """
    names = list(dict.fromkeys([objective, *metrics]))
    trials = []
    for variant in variants:
        trial = {
            "name": variant.name,
            "flags": dict(variant.flags),
            "runs": [_run(variant.name, run) for run in variant.runs],
            "metrics": _metrics(variant, names, on_test=False),
        }
        if any(run.tested for run in variant.runs):
            trial["test_metrics"] = _metrics(variant, names, on_test=True)
        trials.append(trial)
    return trials


def _run(name: str, run: RunResult) -> dict[str, Any]:
    path = f"runs/{name}/seed-{run.seed}"
    state = {"state": run.state.kind, "step": run.state.step}
    return {"seed": run.seed, "path": path, **state}


def _metrics(
    variant: VariantResult, names: Sequence[str], on_test: bool
) -> dict[str, Any]:
    found = {}
    for name in names:
        values = [run.value(name, on_test) for run in variant.runs]
        n, mean, sd = summarize(values)
        each = [*map(_finite, values)]
        found[name] = {"mean": _finite(mean), "sd": _finite(sd), "n": n, "each": each}
    return found


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
