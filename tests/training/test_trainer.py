"""The outer loop: logging, early stopping, checkpoints, values that are not finite."""

import errno
import io
import itertools
import json
import math
import os
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import TIMES, metric_lines
from test_run import train

from aelab.data.permutation import example_indices
from aelab.errors import Stopped, TrainingError, UsageError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.summaries import metrics_log, summaries
from aelab.system import files as writing
from aelab.training import loops, resume, trainer
from aelab.training.loss_scale import LossScale
from aelab.training.plan import Progress


def test_a_log_entry_is_the_mean_since_the_entry_before(tmp_path):
    """And its learning rate is the rate of its last step."""
    fields = {"warmup_steps": 20, "learning_rate": 0.02, "train_steps": 12}
    train(tmp_path / "each", log_every_steps=1, **fields)
    train(tmp_path / "some", log_every_steps=5, **fields)
    each, some = (metric_lines(tmp_path / name, "train") for name in ("each", "some"))
    assert [line["step"] for line in some] == [5, 7, 10, 12]
    first = 0
    for line in some:
        window = each[first : line["step"]]
        for name in ("loss", "psnr", "gradient_norm"):
            mean = np.mean([step[name] for step in window])
            assert line[name] == pytest.approx(mean, rel=1e-6), name
        assert line["learning_rate"] == pytest.approx(0.001 * line["step"])
        first = line["step"]


def test_speed_is_images_per_time_of_the_inner_loop(tmp_path, monkeypatch):
    """With a clock that advances by a second each time it is read."""
    clock = SimpleNamespace(monotonic=itertools.count(0.0).__next__)
    monkeypatch.setattr(trainer, "time", clock)
    train(tmp_path / "run", log_every_steps=5, steps_per_loop=2, train_steps=10)
    lines = metric_lines(tmp_path / "run", "train")
    speeds = [line["images_per_second"] for line in lines]
    # Steps 1 to 5 take three calls, 6 and 7 one, 8 to 10 two.
    assert speeds == pytest.approx([5 * 16 / 3, 2 * 16 / 1, 3 * 16 / 2], abs=0.1)


def test_float16_reports_its_loss_scale_and_skipped_steps(tmp_path, monkeypatch):
    """The scale is too large at first, so the gradient of step 1 overflows."""
    monkeypatch.setattr(LossScale, "_INITIAL", 2.0**40)
    monkeypatch.setattr(LossScale, "_LARGEST", 2.0**40)
    train(tmp_path / "run", precision="mixed_float16", log_every_steps=1, epochs=9)
    lines = metric_lines(tmp_path / "run", "train")
    skipped = lines[-1]["skipped_steps"]
    assert 0 < skipped < len(lines)
    assert lines[-1]["loss_scale"] == 2.0 ** (40 - skipped)
    for before, line in itertools.pairwise(lines):
        is_skipped = line["skipped_steps"] > before["skipped_steps"]
        assert (line["loss"] is None) == is_skipped
        assert (line["gradient_norm"] is None) == is_skipped
    assert lines[-1]["loss"] < 0.69


def test_early_stopping_waits_for_patience_epochs(tmp_path, capsys):
    """No loss is lower by 10, so the first evaluation stays the reference."""
    fields = {"early_stopping_patience": 3, "early_stopping_min_delta": 10.0}
    train(tmp_path / "run", epochs=20, **fields)
    lines = metric_lines(tmp_path / "run", "eval")
    assert [math.floor(line["epoch"]) for line in lines] == [1, 2, 3, 4]
    assert "Stopped early" in capsys.readouterr().out
    assert train(tmp_path / "run", epochs=20, **fields) == {}
    assert f"Complete   {tmp_path / 'run'}" in capsys.readouterr().out


def test_the_best_checkpoint_and_early_stopping_go_by_the_loss(tmp_path, monkeypatch):
    """And not by the PSNR, which may compare with clean images that must not help."""
    metrics = iter(
        {"loss": loss, "psnr": psnr} for loss, psnr in ((3, 1), (1, 2), (2, 8), (2, 9))
    )
    monkeypatch.setattr(trainer, "build_evaluate", lambda *_: lambda *_: next(metrics))
    train(tmp_path / "run", epochs=9, early_stopping_patience=2)
    assert [line["psnr"] for line in metric_lines(tmp_path / "run", "eval")] == [
        1,
        2,
        8,
        9,
    ]
    best = RunDirectory(str(tmp_path / "run")).best
    assert checkpoints.newest(best) == checkpoints.path_of(best, 13)


def test_a_run_that_improves_is_not_stopped_early(tmp_path):
    train(tmp_path / "run", epochs=5, learning_rate=0.001, early_stopping_patience=1)
    assert metric_lines(tmp_path / "run")[-1]["step"] == 32


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
        for path in checkpoints.all_of(folder):
            for name, array in checkpoints.load(path).items():
                if not name.startswith("progress/"):
                    assert np.isfinite(array).all(), name


def test_the_last_good_checkpoint_stays(tmp_path, start, monkeypatch):
    """The images turn bad after the first epoch."""
    run_dir = tmp_path / "run"
    start(run_dir, epochs=1)
    good = Path(checkpoints.newest(RunDirectory(str(run_dir)).latest))
    content = good.read_bytes()
    dataset = loops.make_train_dataset

    def bad_dataset(*arguments):
        return dataset(*arguments).map(lambda x, y: (x, y * math.nan))

    monkeypatch.setattr(loops, "make_train_dataset", bad_dataset)
    with pytest.raises(TrainingError) as error:
        train(run_dir)
    assert "not finite at step 8 (epoch 1.28)" in str(error.value)
    assert str(good) in str(error.value)
    assert good.read_bytes() == content
    assert metric_lines(run_dir)[-1]["step"] == 7
    report = run_dir / "not_finite.json"
    assert str(report) in str(error.value)
    indices = example_indices(tf.constant(7 * 16, tf.int64), 16, 100, seed=0)
    assert json.loads(report.read_text()) == {
        "step": 8,
        "split": "train",
        "image_indices": indices.numpy().tolist(),
    }
    monkeypatch.undo()
    train(run_dir)
    assert not report.exists()


def test_an_evaluation_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    dataset = loops.make_eval_dataset

    def bad_dataset(*arguments):
        bad = tf.data.Dataset.from_tensor_slices([1.0, math.nan])
        images = tf.data.Dataset.zip(dataset(*arguments), bad)
        return images.map(lambda batch, b: (batch[0], batch[1] * b, batch[2]))

    monkeypatch.setattr(loops, "make_eval_dataset", bad_dataset)
    with pytest.raises(TrainingError, match="evaluation loss is not finite at step 7"):
        train(tmp_path / "run")
    assert [line["split"] for line in metric_lines(tmp_path / "run")] == ["train"] * 2
    report = json.loads((tmp_path / "run" / "not_finite.json").read_text())
    expected = {"step": 7, "split": "eval", "image_indices": list(range(16, 30))}
    assert report == expected
    monkeypatch.undo()
    train(tmp_path / "run")
    assert not (tmp_path / "run" / "not_finite.json").exists()


@pytest.mark.parametrize(
    ("part", "wanted"),
    [("best/step-00000013", 1000), ("latest/step-00000013", 1000), ("", 100)],
)
def test_a_full_disk_is_named_and_the_last_checkpoint_stays(
    tmp_path, whole, start, monkeypatch, part, wanted
):
    """Full while writing a checkpoint, or a line of metrics.jsonl."""
    run_dir = tmp_path / "run"
    start(run_dir, epochs=1)
    good = Path(checkpoints.newest(RunDirectory(str(run_dir)).latest))
    content = good.read_bytes()

    class Full(io.FileIO):
        def write(self, content):
            super().write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_full(path, mode="r", **options):
        # Without the random part of a temporary file's name.
        plain = re.sub(r"\.tmp-[0-9a-f]{16}-", "", path)
        is_full = part in plain if part else path.endswith("metrics.jsonl")
        if is_full and mode in ("wb", "ab"):
            return Full(path, mode)
        return open(path, mode, **options)

    monkeypatch.setattr(writing if part else metrics_log, "open", open_full, False)
    with pytest.raises(TrainingError) as error:
        train(run_dir)
    name = f"{part}.npz" if part else "metrics.jsonl"
    for words in ("No space left", name, "at step 1", str(good)):
        assert words in str(error.value)
    number = re.search(r"\(([\d,]+) bytes were wanted", str(error.value))[1]
    assert int(number.replace(",", "")) >= wanted
    assert good.read_bytes() == content
    monkeypatch.undo()
    train(run_dir)
    assert_same_state(run_dir, whole)


def test_an_evaluation_becomes_due_when_the_plan_changes(tmp_path, monkeypatch, capsys):
    """The run is stopped at step 5, without evaluation; then 5 steps are the end."""

    class Stop(SimpleNamespace):
        signal_number = signal.SIGTERM

    writing = trainer.Trainer._log_if_due

    def write_then_stop(self):
        writing(self)
        if self._step == 5:
            self._stop = Stop()

    monkeypatch.setattr(trainer.Trainer, "_log_if_due", write_then_stop)
    with pytest.raises(Stopped, match="at step 5"):
        train(tmp_path / "run")
    monkeypatch.undo()
    capsys.readouterr()
    assert train(tmp_path / "run", train_steps=5)["psnr"] > 0
    assert "Resuming   " in capsys.readouterr().out
    assert [n["split"] for n in metric_lines(tmp_path / "run")] == ["train", "eval"]


def test_pictures_and_event_files_may_fail(tmp_path, whole, monkeypatch, capsys):
    """Each warns once, and the results do not change."""

    def fail(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tf.summary, "write", fail)
    monkeypatch.setattr(summaries, "write_bytes", full)
    capsys.readouterr()
    train(tmp_path / "run")
    pictures, events = capsys.readouterr().err.splitlines()
    assert pictures.startswith("warning: can't write pictures:")
    assert events.startswith("warning: can't write event files")
    assert_same_state(tmp_path / "run", whole)


def test_checkpoints_are_saved_every_n_steps(tmp_path):
    train(tmp_path / "run", checkpoint_every_steps=4, keep_checkpoints=100)
    train(tmp_path / "whole", keep_checkpoints=100)
    steps = [
        [int(Path(path).stem.removeprefix("step-")) for path in paths]
        for paths in (
            checkpoints.all_of(RunDirectory(str(tmp_path / name)).latest)
            for name in ("run", "whole")
        )
    ]
    assert steps == [[19, 16, 13, 12, 8, 7, 4, 0], [19, 13, 7, 0]]
    assert_same_state(tmp_path / "run", tmp_path / "whole")


def test_checkpoints_are_saved_every_n_minutes(tmp_path, monkeypatch):
    """With a clock that advances ten seconds each time it is read."""
    clock = SimpleNamespace(monotonic=itertools.count(0.0, 10.0).__next__)
    monkeypatch.setattr(trainer, "time", clock)
    fields = {"keep_checkpoints": 100, "steps_per_loop": 1, "log_every_steps": 0}
    for minutes, expected in [(0.0, 4), (1.5, 7), (0.1, 20)]:
        run_dir = tmp_path / str(minutes)
        train(run_dir, checkpoint_every_minutes=minutes, **fields)
        found = checkpoints.all_of(RunDirectory(str(run_dir)).latest)
        assert len(found) == expected, minutes


def damage_by_cut(content):
    return content[: len(content) // 2]


def damage_by_flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


def damage_by_lost_index(content):
    """Removes the directory at the end of a zip file."""
    return content[: content.index(b"PK\x01\x02")]


def damage_by_loss(content):
    return b""


DAMAGES = [damage_by_cut, damage_by_flip, damage_by_lost_index, damage_by_loss]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_renamed_and_the_one_before_is_used(
    tmp_path, whole, start, capsys, damage
):
    run_dir = tmp_path / "run"
    start(run_dir, epochs=2)
    path = Path(checkpoints.newest(RunDirectory(str(run_dir)).latest))
    assert path.name == "step-00000013.npz"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    capsys.readouterr()
    train(run_dir)
    output, errors = capsys.readouterr()
    (warning,) = errors.splitlines()
    renamed = path.with_name("damaged-" + path.name)
    for words in (str(path), str(renamed), "step-00000007.npz"):
        assert words in warning
    assert "/run at step 7" in output
    assert renamed.read_bytes() == damaged
    assert_same_state(run_dir, whole)


def test_a_run_without_a_valid_checkpoint_is_refused(tmp_path, start):
    """Every time, and changes nothing."""
    run_dir = tmp_path / "run"
    start(run_dir, epochs=2)
    paths = [Path(p) for p in checkpoints.all_of(RunDirectory(str(run_dir)).latest)]
    for path, damage in zip(paths, DAMAGES, strict=False):
        path.write_bytes(damage(path.read_bytes()))
    before = files(run_dir)
    for _ in range(2):
        with pytest.raises(UsageError) as error:
            train(run_dir)
        assert len(paths) == 3
        for path in paths:
            assert str(path) in str(error.value)
        assert files(run_dir) == before
    shutil.rmtree(paths[0].parent)
    before = files(run_dir)
    with pytest.raises(UsageError, match="latest has no valid checkpoint to resume"):
        train(run_dir)
    assert files(run_dir) == before


@pytest.mark.parametrize("damage", [damage_by_flip, None])
def test_a_best_checkpoint_that_is_lost_is_copied(
    tmp_path, whole, start, capsys, damage
):
    run_dir = tmp_path / "run"
    start(run_dir, epochs=2)
    path = Path(checkpoints.newest(RunDirectory(str(run_dir)).best))
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    capsys.readouterr()
    train(run_dir, epochs=2)
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"{path} was lost or damaged; it was copied from" in warning
    assert path.read_bytes() == (path.parents[1] / "latest" / path.name).read_bytes()
    train(run_dir)
    assert_same_state(run_dir, whole)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_checkpoint_that_cannot_be_read_is_not_renamed(
    tmp_path, start, failing_reads, number
):
    run_dir = tmp_path / "run"
    start(run_dir, epochs=2)
    before = files(run_dir)
    newest, other, _ = checkpoints.all_of(RunDirectory(str(run_dir)).latest)
    failing_reads(newest, number)
    hint = f"if it is removed, the run resumes with {other}: '{newest}'"
    with pytest.raises(OSError, match=re.escape(hint)):
        train(run_dir)
    assert files(run_dir) == before


def test_a_best_checkpoint_that_cannot_be_read_is_not_replaced(
    tmp_path, start, failing_reads
):
    run_dir = tmp_path / "run"
    start(run_dir, epochs=2)
    before = files(run_dir)
    best = checkpoints.newest(RunDirectory(str(run_dir)).best)
    failing_reads(best, errno.EIO)
    with pytest.raises(OSError, match=re.escape(best)) as caught:
        train(run_dir)
    assert files(run_dir) == before
    copy = best.replace("/best/", "/latest/")
    assert f"the run resumes with {copy}" in str(caught.value)


def test_a_copy_of_the_best_checkpoint_is_named_only_if_it_exists(
    tmp_path, failing_reads
):
    run = RunDirectory(str(tmp_path))
    failing_reads(checkpoints.save(run.best, 400, {"step": np.int64(400)}), errno.EIO)
    state = SimpleNamespace(progress=Progress(best_step=400))
    with pytest.raises(OSError, match="error") as caught:
        resume._restore_best(state, run)
    assert "if it is removed" not in str(caught.value)


def test_a_lost_best_checkpoint_gives_way_to_the_next_best(tmp_path, capsys):
    state = SimpleNamespace(progress=Progress(best_step=400, best_loss=0.1))
    resume._restore_best(state, RunDirectory(str(tmp_path)))
    assert state.progress.record(500, 0.2, 0.0)
    assert "the best checkpoint is lost" in capsys.readouterr().err


def test_a_run_resumes_under_the_same_process_number(tmp_path, whole, monkeypatch):
    """Containers share process numbers."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    train(tmp_path / "run", epochs=2)
    train(tmp_path / "run")
    assert_same_state(tmp_path / "run", whole)


def files(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The reference run, which nothing stops."""
    path = tmp_path_factory.mktemp("whole") / "run"
    train(path)
    return path


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """`start(run_dir, epochs)`: copies a run that has trained so many epochs."""
    folder = tmp_path_factory.mktemp("started")

    def copy(run_dir, epochs):
        run = folder / str(epochs)
        if not run.exists():
            train(run, epochs=epochs)
        shutil.copytree(run, run_dir)

    return copy


def assert_same_state(run_dir, whole):
    """The newest and the best checkpoint and all metrics are equal, except times."""
    for kind in ("latest", "best"):
        mine, theirs = (
            Path(checkpoints.newest(RunDirectory(str(path)).checkpoints(kind)))
            for path in (run_dir, whole)
        )
        assert mine.name == theirs.name
        assert mine.read_bytes() == theirs.read_bytes()
    mine, theirs = (
        [{k: v for k, v in n.items() if k not in TIMES} for n in lines]
        for lines in (metric_lines(run_dir), metric_lines(whole))
    )
    assert mine == theirs
