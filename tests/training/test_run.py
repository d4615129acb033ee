"""A whole run: what it writes, when, and how it ends."""

import functools
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL_RUN, metric_lines, run_forked
from processes import lose_output

from aelab.config import Config
from aelab.errors import UsageError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.training.run import train_and_evaluate

FIELDS = {
    "model": "dense",
    "encoding_dim": 8,
    "batch_size": 16,
    "train_examples": 100,
    "eval_examples": 30,
    "noise_stddev": 0.2,
    "learning_rate": 0.01,
    "log_every_steps": 5,
    "epochs": 3,
}


def train(run_dir, **fields):
    return train_and_evaluate(Config(**(FIELDS | fields)), str(run_dir))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("loop") / "run"
    train(path)
    return path


def test_lines_are_at_the_steps_of_the_plan(run_dir):
    evaluations = [line["step"] for line in metric_lines(run_dir, "eval")]
    training = [line["step"] for line in metric_lines(run_dir, "train")]
    assert evaluations == [7, 13, 19]
    assert training == [5, 7, 10, 13, 15, 19]
    steps = [line["step"] for line in metric_lines(run_dir)]
    assert steps == sorted(training + evaluations)


def test_lines_hold_the_metrics_of_their_split(run_dir):
    by_split = {
        "train": {"learning_rate", "gradient_norm", "images_per_second", "input_wait"},
        "eval": {"bce", "mse", "ssim"},
    }
    for line in metric_lines(run_dir):
        common = {"step", "epoch", "split", "loss", "psnr"}
        assert set(line) == common | by_split[line["split"]]
        assert line["epoch"] == pytest.approx(line["step"] * 16 / 100)
        assert all(math.isfinite(line[n]) for n in set(line) - {"split"})


def test_a_run_lowers_its_loss(run_dir):
    losses = [line["loss"] for line in metric_lines(run_dir, "eval")]
    assert losses[0] > losses[1] > losses[2]


def test_the_best_checkpoint_has_the_lowest_evaluation_loss(tmp_path):
    """At this rate the loss goes up and down."""
    train(tmp_path / "run", learning_rate=0.3, epochs=8, seed=4)
    lines = metric_lines(tmp_path / "run", "eval")
    best = min(lines, key=lambda line: line["loss"])
    assert best is not lines[-1], "the test needs a run that gets worse again"
    run = RunDirectory(str(tmp_path / "run"))
    assert checkpoints.newest(run.best) == checkpoints.path_of(run.best, best["step"])
    last = checkpoints.path_of(run.latest, lines[-1]["step"])
    assert checkpoints.newest(run.latest) == last


def test_panels_show_clean_corrupted_and_output(run_dir):
    names = sorted(path.name for path in (run_dir / "images").iterdir())
    assert names == [f"panel-{step:08d}.png" for step in (7, 13, 19)]
    first, last = (
        tf.io.decode_png((run_dir / "images" / name).read_bytes()).numpy()
        for name in (names[0], names[-1])
    )
    tile, gap = 84, 4
    assert first.shape == (3 * (tile + gap) + gap, 12 * (tile + gap) + gap, 1)
    rows = [
        picture[gap + row * (tile + gap) :][:tile].astype(float)
        for picture in (first, last)
        for row in range(3)
    ]
    np.testing.assert_array_equal(rows[0], rows[3])
    np.testing.assert_array_equal(rows[1], rows[4])
    noise = np.abs(rows[1] - rows[0]).mean()
    assert 5 < noise < 60
    assert np.abs(rows[5] - rows[0]).mean() < np.abs(rows[2] - rows[0]).mean()


def test_configuration_is_written(run_dir):
    content = json.loads((run_dir / "config.json").read_text())
    assert {name: content[name] for name in FIELDS} == FIELDS
    assert set(content["versions"]) == {
        *("python", "tensorflow", "keras", "numpy", "aelab"),
    }
    flags = (run_dir / "run.flags").read_text().splitlines()
    assert "--noise_stddev=0.2" in flags
    assert len(flags) == len(Config.__dataclass_fields__) + 1


def test_a_run_prints_its_corruption(tmp_path, capsys):
    train(tmp_path / "run", corruption="gaussian,jpeg", epochs=1)
    task = "corruption gaussian (noise_stddev 0.2), jpeg (jpeg_quality 10); loss bce"
    assert task in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"noise_clip": False}, ""),
        ({}, "gaussian noise is clipped to [0, 1]"),
        ({"corruption": "poisson", "noise_stddev": 0.0}, "poisson noise is clipped"),
    ],
    ids=str,
)
def test_a_run_without_clean_images_warns_of_clipped_noise(
    tmp_path, capsys, values, warning
):
    values = {"supervision": "noise2noise", "loss": "mse", "epochs": 1} | values
    train(tmp_path / "run", **values)
    printed = capsys.readouterr()
    assert "Task       noise2noise, corruption " in printed.out
    assert warning in printed.err if warning else "clipped" not in printed.err


def test_the_same_command_again_has_nothing_to_do(run_dir, capsys):
    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    assert train(run_dir) == {}
    output = capsys.readouterr().out
    assert f"Complete   {run_dir}" in output
    events = {p for p in run_dir.rglob("events*")}
    assert {p: p.read_bytes() for p in before} == before
    assert {p for p in run_dir.rglob("*") if p.is_file()} <= set(before) | events


def test_a_complete_run_keeps_its_machine(tmp_path, capsys):
    train(tmp_path / "run", epochs=1)
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    content["machine"]["cpu"] = "Z80"
    path.write_text(json.dumps(content))
    train(tmp_path / "run", epochs=1)
    assert json.loads(path.read_text()) == content
    capsys.readouterr()
    train(tmp_path / "run", epochs=2)
    assert "cpu Z80 -> " in capsys.readouterr().out
    assert json.loads(path.read_text())["machine"]["cpu"] != "Z80"


def test_a_code_as_large_as_the_image_comes_close_to_the_original(tmp_path):
    large, small = (
        train(
            tmp_path / str(encoding_dim),
            encoding_dim=encoding_dim,
            noise_stddev=0.0,
            code_activation="linear",
            loss="mse",
            batch_size=25,
            train_examples=500,
            learning_rate=0.002,
            epochs=20,
            eval_every_epochs=20,
        )
        for encoding_dim in (768, 8)
    )
    assert large["psnr"] > small["psnr"] + 4
    assert large["psnr"] > 20


def test_a_model_that_does_not_fit_into_memory_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr("aelab.training.run.TrainState", full)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM when allocating"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_can_be_made_longer_but_not_shorter(run_dir, tmp_path):
    train(tmp_path / "run", epochs=2)
    train(tmp_path / "run", epochs=3)
    paths = [
        path / "checkpoints/latest/step-00000019.npz"
        for path in (tmp_path / "run", run_dir)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with pytest.raises(UsageError, match="trained for 19 steps"):
        train(tmp_path / "run", epochs=1)


def test_intervals_do_not_change_the_numbers(run_dir, tmp_path):
    train(tmp_path / "run", steps_per_loop=1, log_every_steps=0, eval_every_epochs=2)
    name = "checkpoints/latest/step-00000019.npz"
    mine, theirs = (
        checkpoints.load(str(p / name)) for p in (run_dir, tmp_path / "run")
    )
    for key in mine:
        if key.startswith(("model/", "optimizer/", "step")):
            np.testing.assert_array_equal(mine[key], theirs[key], err_msg=key)


@pytest.mark.parametrize("is_pipe", [False, True])
def test_a_run_does_not_need_its_output(tmp_path, is_pipe):
    run = tmp_path / "run"
    prepare = functools.partial(lose_output, is_pipe)
    result = run_forked("train", *SMALL_RUN, f"--run_dir={run}", prepare=prepare)
    assert result.returncode == 0
    assert metric_lines(run)[-1]["split"] == "eval"
