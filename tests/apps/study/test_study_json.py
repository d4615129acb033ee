import json
import math

import pytest
from made_up import run, variant

from aelab.apps.study.results import VariantResult
from aelab.apps.study.state import DIVERGED, MISSING
from aelab.apps.study.study_json import results


def test_runs_and_metrics_are_listed():
    found = results([variant("a", [18.0, 18.5], {"epochs": 5})], "psnr", [])
    assert found == [
        {
            "name": "a",
            "flags": {"epochs": 5},
            "runs": [
                {
                    "seed": seed,
                    "path": f"runs/a/seed-{seed}",
                    "state": "finished",
                    "step": 1000,
                }
                for seed in (0, 1)
            ],
            "metrics": {
                "psnr": {
                    "mean": 18.25,
                    "sd": pytest.approx(math.sqrt(0.125)),
                    "n": 2,
                    "each": [18.0, 18.5],
                }
            },
        }
    ]


def test_values_that_are_not_known_are_null():
    runs = [run(0, DIVERGED, 70), run(1, MISSING), run(2, psnr=18.0, loss=math.inf)]
    (trial,) = results([VariantResult("a", {}, runs)], "loss", ["psnr", "loss"])
    assert list(trial["metrics"]) == ["loss", "psnr"]
    each = [None, None, 18.0]
    assert trial["metrics"]["psnr"] == {"mean": 18.0, "sd": None, "n": 1, "each": each}
    assert trial["metrics"]["loss"]["n"] == 0
    assert trial["runs"][0]["state"] == "diverged" and trial["runs"][0]["step"] == 70
    json.dumps(trial, allow_nan=False)


def test_metrics_of_the_test_part_are_apart():
    tested = VariantResult("a", {}, [run(0, tested={"psnr": 17.0}, psnr=18.0), run(1)])
    first, second = results([tested, variant("b", [18.0])], "psnr", [])
    assert first["metrics"]["psnr"]["mean"] == 18.0
    assert first["test_metrics"]["psnr"]["each"] == [17.0, None]
    assert "test_metrics" not in second
