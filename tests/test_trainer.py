"""The outer loop: early stopping, training lines, and what is not finite."""

import errno
import itertools
import math
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from test_loop import read_lines, train

from aelab import checkpoints, trainer
from aelab.errors import Stopped, TrainingError
from aelab.optimizers import LossScale
from aelab.run_directory import RunDirectory


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
    monkeypatch.setattr(trainer, "time", clock)
    train(tmp_path / "run", log_every_steps=5, steps_per_loop=2, train_steps=10)
    lines = [n for n in read_lines(tmp_path / "run") if n["split"] == "train"]
    speeds = [line["images_per_second"] for line in lines]
    # Steps 1 to 5 take three calls, 6 and 7 one, 8 to 10 two.
    assert speeds == pytest.approx([5 * 16 / 3, 2 * 16 / 1, 3 * 16 / 2], abs=0.1)


def test_float16_reports_its_loss_scale_and_what_it_skipped(tmp_path, monkeypatch):
    """A scale that is too large at first: the gradient of step 1 overflows."""
    monkeypatch.setattr(LossScale, "_FIRST", 2.0**127)
    monkeypatch.setattr(LossScale, "_MOST", 2.0**127)
    train(tmp_path / "run", precision="mixed_float16", log_every_steps=1, epochs=30)
    lines = [n for n in read_lines(tmp_path / "run") if n["split"] == "train"]
    skipped = lines[-1]["skipped_steps"]
    assert 0 < skipped < len(lines)
    assert lines[-1]["loss_scale"] == 2.0 ** (127 - skipped)
    for before, line in itertools.pairwise(lines):
        is_skipped = line["skipped_steps"] > before["skipped_steps"]
        assert (line["loss"] is None) == is_skipped
        assert (line["gradient_norm"] is None) == is_skipped
    assert lines[-1]["loss"] < 0.69


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
    dataset = trainer.make_train_dataset

    def bad_dataset(*arguments):
        return dataset(*arguments).map(lambda x, y: (x, y * math.nan))

    monkeypatch.setattr(trainer, "make_train_dataset", bad_dataset)
    with pytest.raises(TrainingError) as error:
        train(run_dir)
    assert "not finite at step 8 (epoch 1.28)" in str(error.value)
    assert str(good) in str(error.value)
    assert good.read_bytes() == content
    assert read_lines(run_dir)[-1]["step"] == 7


def test_an_evaluation_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    dataset = trainer.make_eval_dataset

    def bad_dataset(*arguments):
        return dataset(*arguments).map(lambda x, y, w: (x, y * math.nan, w))

    monkeypatch.setattr(trainer, "make_eval_dataset", bad_dataset)
    with pytest.raises(TrainingError, match="evaluation loss is not finite at step 7"):
        train(tmp_path / "run")
    assert [line["split"] for line in read_lines(tmp_path / "run")] == ["train"] * 2


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    train(run_dir, epochs=1)
    good = Path(checkpoints.newest(RunDirectory(str(run_dir)).latest))
    content = good.read_bytes()

    def full(*arguments, **arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(TrainingError) as error:
        train(run_dir)
    for words in ("No space left", "step-00000013.npz", "at step 13 (", str(good)):
        assert words in str(error.value)
    assert good.read_bytes() == content
    monkeypatch.undo()
    train(run_dir)
    train(tmp_path / "whole")
    paths = [
        p / "checkpoints/latest/step-00000019.npz"
        for p in (run_dir, tmp_path / "whole")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_evaluation_becomes_due_when_the_plan_changes(tmp_path, monkeypatch, capsys):
    """Stopped at step 5, which is no evaluation; then 5 steps are all that is asked."""

    class Stop(SimpleNamespace):
        signal_number = signal.SIGTERM

    writing = trainer.Trainer._write_training_line_if_due

    def write_then_stop(self):
        writing(self)
        if self._step == 5:
            self._stop_if_asked(Stop())

    monkeypatch.setattr(trainer.Trainer, "_write_training_line_if_due", write_then_stop)
    with pytest.raises(Stopped, match="at step 5"):
        train(tmp_path / "run")
    monkeypatch.undo()
    capsys.readouterr()
    assert train(tmp_path / "run", train_steps=5)["psnr"] > 0
    assert "Goes on    at step 5" in capsys.readouterr().out
    assert [n["split"] for n in read_lines(tmp_path / "run")] == ["train", "eval"]


def test_a_failing_event_file_ends_the_run_with_what_is_safe(tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    train(run_dir, epochs=1)

    def fail(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.summary, "image", fail)
    with pytest.raises(TrainingError) as error:
        train(run_dir)
    for words in ("at step 13 (epoch 2.08)", "No space left", "step-00000007.npz"):
        assert words in str(error.value)
