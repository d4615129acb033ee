import json
import math

import pytest
from made_up import CONFIG, STEPS, write_run

from aelab.apps.study.state import Curve, RunState, read_curve, run_state
from aelab.config import Config
from aelab.runs import checkpoints


def test_a_run_without_a_folder_is_missing(tmp_path):
    assert run_state(str(tmp_path / "run"), CONFIG) == RunState("missing")


@pytest.mark.parametrize(
    ("step", "progress", "kind"),
    [
        (STEPS, {}, "finished"),
        (10, {}, "started"),
        (STEPS, {"evaluated_step": 10}, "started"),
        (10, {"reference_step": 0}, "finished"),
        (10, {"reference_step": 5}, "started"),
    ],
)
def test_the_newest_checkpoint_says_whether_a_run_is_finished(
    tmp_path, step, progress, kind
):
    write_run(tmp_path, step, **progress)
    assert run_state(str(tmp_path), CONFIG) == RunState(kind, step, 5, 6)


def test_a_longer_run_is_not_finished(tmp_path):
    write_run(tmp_path)
    longer = Config(epochs=4, batch_size=8, early_stopping_patience=2)
    assert run_state(str(tmp_path), longer).kind == "started"


def test_a_run_with_a_loss_that_is_not_finite_has_diverged(tmp_path):
    run = write_run(tmp_path, 10)
    (tmp_path / "not_finite.json").write_text(json.dumps({"step": 12}))
    assert run_state(str(tmp_path), CONFIG) == RunState("diverged", 12, 5, 6)
    (tmp_path / "not_finite.json").write_text("rubbish")
    assert run_state(run.path, CONFIG).kind == "started"


@pytest.mark.parametrize("damage", ["checkpoint", "config", "no checkpoint"])
def test_a_damaged_run_is_not_finished(tmp_path, damage):
    run = write_run(tmp_path)
    if damage == "config":
        (tmp_path / "config.json").write_text("{}")
    elif damage == "checkpoint":
        with open(checkpoints.newest(run.latest), "ab") as file:
            file.truncate(40)
    else:
        (tmp_path / "checkpoints" / "latest" / "step-00000015.npz").unlink()
    assert run_state(str(tmp_path), CONFIG).kind == "started"


def line(split, step, **values):
    return {"step": step, "epoch": step / 5, "split": split} | values


def test_a_curve_has_the_metrics_of_the_best_step(tmp_path):
    lines = [
        line("train", 5, loss=9.0, images_per_second=100.0),
        line("eval", 5, loss=0.5, psnr=20.0),
        line("train", 10, loss=8.0, images_per_second=300.0),
        line("train", 15, loss=8.0, images_per_second=200.0),
        line("eval", 15, loss=0.75, psnr=None),
    ]
    text = "\n".join(map(json.dumps, lines)) + "\nrubbish\n[]\n"
    (tmp_path / "metrics.jsonl").write_text(text)
    curve = read_curve(str(tmp_path), 5)
    assert curve.best == {"loss": 0.5, "psnr": 20.0}
    assert curve.epochs == [1.0, 3.0]
    assert curve.values["loss"] == [0.5, 0.75]
    assert curve.values["psnr"][0] == 20.0 and math.isnan(curve.values["psnr"][1])
    assert curve.images_per_second == 200.0


def test_a_run_without_metrics_has_an_empty_curve(tmp_path):
    curve = read_curve(str(tmp_path), 0)
    assert curve[:3] == Curve({}, [], {}, 0.0)[:3]
    assert math.isnan(curve.images_per_second)


def test_a_long_curve_is_thinned(tmp_path):
    with open(tmp_path / "metrics.jsonl", "w") as file:
        for step in range(1, 10_001):
            file.write(json.dumps(line("eval", step, loss=1 / step)) + "\n")
    curve = read_curve(str(tmp_path), 7777)
    assert curve.best == {"loss": 1 / 7777}
    assert (curve.epochs[0], curve.epochs[-1], len(curve.epochs)) == (0.2, 2000.0, 200)
