"""What a study reads of its runs."""

import json
import shutil

import pytest
import study
from made_up import write_study

from aelab.apps.study import command
from aelab.apps.study.description import read_description
from aelab.apps.study.progress import Left
from aelab.apps.study.study import Work, read_results, train_study

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


def test_a_table_is_made_of_what_is_there(tmp_path, capsys):
    """Seeds of a: finished, diverged, damaged. Of b: damaged, missing, missing."""
    rates = "learning_rate=0.5,1"
    psnrs = [20.0, 21.0, 22.0, 23.0, 24.0]
    a0, b0, a1, b1, a2, _ = write_study(tmp_path, rates, seeds=3, psnrs=psnrs)
    (a1 / "not_finite.json").write_text('{"step": 12}')
    (a2 / "config.json").write_text("{")
    (b0 / "checkpoints" / "latest" / "step-00000015.npz").write_bytes(b"PK")
    shutil.rmtree(b1)
    (a0 / "metrics.jsonl").write_bytes((a0 / "metrics.jsonl").read_bytes() + b"\xff\n{")
    study.main(["study.py", f"--study_dir={tmp_path}", "--table_only"])
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    rows = [line.split("|")[2:4] for line in table.splitlines()[2:4]]
    first = ["1 of 3 seeds; 1 of 3 diverged, at step 12", "20.00"]
    assert [[cell.strip() for cell in row] for row in rows] == [
        first,
        ["0 of 3 seeds", ""],
    ]
    trials = json.loads((tmp_path / "study.json").read_text())["trials"]
    kinds = [[run["state"] for run in trial["runs"]] for trial in trials]
    assert kinds == [
        ["finished", "diverged", "started"],
        ["started", "missing", "missing"],
    ]


@pytest.mark.parametrize(
    ("retry_failed", "counts"),
    [(False, "2 done, 1 to resume, 1 to begin"), (True, "1 done, 2 to resume, 1 to")],
)
def test_what_failed_is_tried_again_and_what_diverged_only_if_asked(
    tmp_path, monkeypatch, capsys, retry_failed, counts
):
    runs = write_study(tmp_path, "loss=bce,mse", psnrs=[20.0] * 3)
    (runs[1] / "not_finite.json").write_text('{"step": 12}')
    (runs[2] / "checkpoints" / "latest" / "step-00000015.npz").unlink()
    begun = []

    def work_on(pool, action, trials, is_done):
        begun.extend(trial.run_dir for trial in trials)
        return Left([], [])

    monkeypatch.setattr("aelab.apps.study.study.work_on", work_on)
    description = read_description(str(tmp_path))
    train_study(str(tmp_path), description, Work(retry_failed=retry_failed))
    assert counts in capsys.readouterr().out
    expected = [runs[1], runs[2], runs[3]] if retry_failed else [runs[2], runs[3]]
    assert begun == [str(run) for run in expected]


def test_what_another_command_has_added_meanwhile_is_kept(tmp_path, monkeypatch):
    write_study(tmp_path, seeds=1, psnrs=[20.0])

    def train(*arguments):
        """Another command adds a seed and another metric, and trains the seed."""
        write_study(tmp_path, seeds=2, psnrs=[20.0, 21.0], metrics=["loss"])
        return 0

    monkeypatch.setattr(command, "train_study", train)
    study.main(["study.py", f"--study_dir={tmp_path}"])
    assert read_description(str(tmp_path)).seeds == 2
    (trial,) = json.loads((tmp_path / "study.json").read_text())["trials"]
    assert trial["metrics"]["loss"]["each"] == [0.5, 0.5]
