"""What a study reads of its runs."""

import json

import pytest
from made_up import write_study

from aelab.apps.study.description import read_description
from aelab.apps.study.study import read_results

EVALUATION = {"checkpoint": "best", "step": 5, "split": "test", "examples": 16}
EVALUATION |= {"data": {"as_in_training": None}, "metrics": {"psnr": 19.0}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"psnr": 19.0}),
        ({"data": {"as_in_training": True}}, {"psnr": 19.0}),
        ({"data": {"as_in_training": False}}, {}),
        ({"split": "validation"}, {}),
        ({"step": 10}, {}),
        ({"checkpoint": "latest"}, {}),
        ({"metrics": {"psnr": "high"}}, {}),
        ({"metrics": 3}, {}),
        ({"data": 3}, {}),
    ],
)
def test_an_evaluation_counts_if_it_is_of_the_best_step_and_the_test_part(
    tmp_path, changes, expected
):
    (run,) = write_study(tmp_path, seeds=1, psnrs=[20.0])
    (run / "evaluation.json").write_text(json.dumps(EVALUATION | changes))
    (variant,) = read_results(str(tmp_path), read_description(str(tmp_path)))
    assert variant.runs[0].tested == expected
    assert variant.runs[0].value("psnr", on_test=False) == 20.0
