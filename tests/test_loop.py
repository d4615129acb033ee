"""A whole run, in this process: what it writes, when, and how it ends."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from aelab import checkpoints, loop
from aelab.config import Config
from aelab.errors import TrainingError, UsageError
from aelab.loop import train_and_evaluate
from aelab.run_directory import RunDirectory

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


def read_lines(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def train(run_dir, **fields):
    return train_and_evaluate(Config(**(FIELDS | fields)), str(run_dir))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("loop") / "run"
    train(path)
    return path


def test_lines_stand_where_the_plan_says(run_dir):
    lines = read_lines(run_dir)
    evaluations = [line["step"] for line in lines if line["split"] == "eval"]
    training = [line["step"] for line in lines if line["split"] == "train"]
    assert evaluations == [7, 13, 19]
    assert training == [5, 7, 10, 13, 15, 19]
    assert [line["step"] for line in lines] == sorted(training + evaluations)


def test_lines_hold_the_contracts_figures(run_dir):
    figures = {
        "train": {"learning_rate", "gradient_norm", "images_per_second"},
        "eval": {"bce", "mse", "ssim"},
    }
    for line in read_lines(run_dir):
        common = {"step", "epoch", "split", "loss", "psnr"}
        assert set(line) == common | figures[line["split"]]
        assert line["epoch"] == pytest.approx(line["step"] * 16 / 100)
        assert all(math.isfinite(line[n]) for n in set(line) - {"split"})


def test_a_training_line_is_the_mean_since_the_line_before(tmp_path):
    """And its learning rate that of its last step."""
    fields = {"warmup_steps": 20, "learning_rate": 0.02, "train_steps": 12}
    train(tmp_path / "each", log_every_steps=1, **fields)
    train(tmp_path / "some", log_every_steps=5, **fields)
    each, some = (
        [n for n in read_lines(tmp_path / name) if n["split"] == "train"]
        for name in ("each", "some")
    )
    assert [line["step"] for line in some] == [5, 7, 10, 12]
    first = 0
    for line in some:
        window = each[first : line["step"]]
        for name in ("loss", "psnr", "gradient_norm"):
            mean = np.mean([step[name] for step in window])
            assert line[name] == pytest.approx(mean, rel=1e-6), name
        assert line["learning_rate"] == pytest.approx(0.001 * line["step"])
        first = line["step"]


def test_speed_is_images_by_the_time_of_the_inner_loop(tmp_path, monkeypatch):
    """By a clock that moves on a second each time that it is looked at."""
    clock = SimpleNamespace(monotonic=itertools.count(0.0).__next__)
    monkeypatch.setattr(loop, "time", clock)
    train(tmp_path / "run", log_every_steps=5, steps_per_loop=2, train_steps=10)
    lines = [n for n in read_lines(tmp_path / "run") if n["split"] == "train"]
    speeds = [line["images_per_second"] for line in lines]
    # Steps 1 to 5 take three calls, 6 and 7 one, 8 to 10 two.
    assert speeds == pytest.approx([5 * 16 / 3, 2 * 16 / 1, 3 * 16 / 2], abs=0.1)


def test_it_learns(run_dir):
    losses = [line["loss"] for line in read_lines(run_dir) if line["split"] == "eval"]
    assert losses[0] > losses[1] > losses[2]


def test_the_best_checkpoint_is_that_of_the_lowest_eval_loss(tmp_path):
    """At this rate the loss goes up and down."""
    train(tmp_path / "run", learning_rate=0.3, epochs=8, seed=3)
    lines = [n for n in read_lines(tmp_path / "run") if n["split"] == "eval"]
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


def test_the_same_command_again_has_nothing_to_do(run_dir, capsys):
    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    assert train(run_dir) == {}
    output = capsys.readouterr().out
    assert "at step 19" in output
    events = {p for p in run_dir.rglob("events*")}
    assert {p: p.read_bytes() for p in before} == before
    assert {p for p in run_dir.rglob("*") if p.is_file()} <= set(before) | events


def test_early_stopping_waits_for_patience_epochs(tmp_path, capsys):
    """No loss is lower by 10, so the first evaluation stays the reference."""
    fields = {"early_stopping_patience": 3, "early_stopping_min_delta": 10.0}
    train(tmp_path / "run", epochs=20, **fields)
    lines = [n for n in read_lines(tmp_path / "run") if n["split"] == "eval"]
    assert [math.floor(line["epoch"]) for line in lines] == [1, 2, 3, 4]
    assert "Stopped early" in capsys.readouterr().out
    assert train(tmp_path / "run", epochs=20, **fields) == {}


def test_no_early_stopping_while_it_gets_better(tmp_path):
    train(tmp_path / "run", epochs=5, learning_rate=0.001, early_stopping_patience=1)
    assert read_lines(tmp_path / "run")[-1]["step"] == 32


@pytest.mark.parametrize("learning_rate", [1e36, 1e38])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, learning_rate):
    """SGD at such a rate leaves the range of float32 within a few steps."""
    run = RunDirectory(str(tmp_path / "run"))
    with pytest.raises(TrainingError, match=r"not finite at step \d+ \(epoch"):
        train(
            tmp_path / "run",
            optimizer="sgd",
            loss="mse",
            code_activation="linear",
            l1_activity=1.0,
            learning_rate=learning_rate,
        )
    for folder in (run.latest, run.best):
        path = checkpoints.newest(folder)
        if path:
            for array in checkpoints.load(path).values():
                assert np.isfinite(array).all()


def test_the_last_good_checkpoint_stays(tmp_path, monkeypatch):
    """The images turn bad after the first epoch."""
    run_dir = tmp_path / "run"
    train(run_dir, epochs=1)
    good = Path(checkpoints.newest(RunDirectory(str(run_dir)).latest))
    content = good.read_bytes()
    dataset = loop.make_train_dataset

    def bad_dataset(*arguments):
        return dataset(*arguments).map(lambda x, y: (x, y * math.nan))

    monkeypatch.setattr(loop, "make_train_dataset", bad_dataset)
    with pytest.raises(TrainingError) as error:
        train(run_dir)
    assert "not finite at step 8 (epoch 1.28)" in str(error.value)
    assert str(good) in str(error.value)
    assert good.read_bytes() == content
    assert read_lines(run_dir)[-1]["step"] == 7


def test_a_code_as_large_as_the_image_comes_close_to_the_original(tmp_path):
    figures = train(
        tmp_path / "run",
        encoding_dim=768,
        noise_stddev=0.0,
        code_activation="linear",
        loss="mse",
        train_examples=1000,
        learning_rate=0.001,
        epochs=40,
    )
    small = train(
        tmp_path / "small",
        encoding_dim=8,
        noise_stddev=0.0,
        code_activation="linear",
        loss="mse",
        train_examples=1000,
        learning_rate=0.001,
        epochs=40,
    )
    assert figures["psnr"] > small["psnr"] + 5
    assert figures["psnr"] > 22


def test_a_run_can_be_made_longer_but_not_shorter(tmp_path):
    train(tmp_path / "run", epochs=2)
    train(tmp_path / "run", epochs=3)
    train(tmp_path / "whole", epochs=3)
    paths = [
        tmp_path / n / "checkpoints/latest/step-00000019.npz" for n in ("run", "whole")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with pytest.raises(UsageError, match="trained for 19 steps"):
        train(tmp_path / "run", epochs=1)


def test_intervals_change_no_number(run_dir, tmp_path):
    train(tmp_path / "run", steps_per_loop=1, log_every_steps=0, eval_every_epochs=2)
    name = "checkpoints/latest/step-00000019.npz"
    mine, theirs = (
        checkpoints.load(str(p / name)) for p in (run_dir, tmp_path / "run")
    )
    for key in mine:
        if key.startswith(("model/", "optimizer/", "step")):
            np.testing.assert_array_equal(mine[key], theirs[key], err_msg=key)
