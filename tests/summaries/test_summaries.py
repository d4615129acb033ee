"""The files of a run; test_tensorboard.py has what TensorBoard shows of them."""

import errno
import io
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator,
)
from tensorboard.plugins.histogram.summary_v2 import histogram_pb

from aelab.config import Config
from aelab.data.sources import load_split
from aelab.metrics import EVAL_METRICS, TRAIN_METRICS
from aelab.models import build_model
from aelab.runs.directory import RunDirectory
from aelab.summaries import projector, summaries
from aelab.summaries.summaries import Summaries
from aelab.training.state import Progress


def line(step, split="train"):
    return json.dumps({"step": step, "epoch": 1.0, "split": split, "loss": 0.5}) + "\n"


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(str(tmp_path))
    run.write(Config(), {}, {})
    return run


def resumed(run, text, logged_step, evaluated_step):
    """The metrics.jsonl with content `text` after a run has resumed."""
    with open(run.metrics_jsonl, "w") as file:
        file.write(text)
    progress = Progress(logged_step=logged_step, evaluated_step=evaluated_step)
    with Summaries(run, progress, max(logged_step, evaluated_step)):
        pass
    with open(run.metrics_jsonl) as file:
        return file.read()


def test_an_entry_is_json_and_in_the_file_at_once(run):
    with Summaries(run, Progress(), 0) as writer:
        writer.scalars("train", 7, 1.23456789, {"loss": 0.1, "psnr": 20.5})
        with open(run.metrics_jsonl) as file:
            found = json.loads(file.read())
    expected = {"step": 7, "epoch": 1.2346, "split": "train", "loss": 0.1, "psnr": 20.5}
    assert found == expected
    assert list(found)[:3] == ["step", "epoch", "split"]


def test_a_full_disk_names_the_file_once(run):
    with Summaries(run, Progress(), 0) as writer:
        writer._metrics.close()
        writer._metrics = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
        with pytest.raises(OSError, match="No space left") as error:
            writer.scalars("train", 7, 1.0, {"loss": 0.1})
    assert error.value.filename == run.metrics_jsonl
    assert re.search(r"\(\d+ bytes were wanted, [\d,]+ are free\)", str(error.value))


def test_entries_up_to_the_checkpoint_stay(run):
    text = line(5) + line(10) + line(10, "eval")
    assert resumed(run, text, logged_step=10, evaluated_step=10) == text


def test_entries_after_the_checkpoint_are_removed(run):
    valid = line(5) + line(10) + line(10, "eval")
    text = valid + line(15) + line(20) + line(20, "eval")
    assert resumed(run, text, logged_step=10, evaluated_step=10) == valid


def test_an_evaluation_after_the_checkpoint_is_removed(run):
    text = line(10) + line(10, "eval")
    assert resumed(run, text, logged_step=10, evaluated_step=5) == line(10)


@pytest.mark.parametrize(
    "torn", ['{"step": 11, "ep', "\x00\x00", "[]\n", '{"step": 5}\n', "5\n"]
)
def test_an_incomplete_entry_is_removed(run, torn):
    assert resumed(run, line(5) + torn, logged_step=50, evaluated_step=50) == line(5)


def test_an_entry_without_a_line_end_is_removed(run):
    text = line(5) + line(10)[:-1]
    assert resumed(run, text, logged_step=50, evaluated_step=50) == line(5)


@pytest.mark.parametrize("block", [1, 30, 1 << 16])
@pytest.mark.parametrize("until", [0, 5, 11, 12])
def test_the_block_size_of_reading_does_not_matter(run, monkeypatch, block, until):
    monkeypatch.setattr(summaries, "_BLOCK", block)
    lines = [line(step) for step in range(1, 13)]
    text = "".join(lines) + '{"step": 13, "sp'
    assert resumed(run, text, until, until) == "".join(lines[:until])


def test_of_a_long_run_only_the_end_is_read(run, monkeypatch):
    """10,000,000 steps with an entry every hundred."""
    lines = [line(step) for step in range(100, 10_000_001, 100)]
    read = []

    class Counting(io.FileIO):
        def read(self, size=-1):
            content = super().read(size)
            read.append(len(content))
            return content

    def open_counting(path, mode):
        return Counting(path, mode) if "+" in mode else open(path, mode)

    monkeypatch.setattr(summaries, "open", open_counting, raising=False)
    with open(run.metrics_jsonl, "w") as file:
        file.writelines(lines)
    until = 10_000_000 - 500
    summaries._drop_lines(run.metrics_jsonl, {"train": until, "eval": 0})
    with open(run.metrics_jsonl) as file:
        assert file.read() == "".join(lines[:-5])
    assert sum(read) < 100_000


def test_a_failing_picture_warns_once(run, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(summaries, "write_bytes", full)
    rows = np.zeros((3, 2, 28, 28, 1), np.float32)
    with Summaries(run, Progress(), 0) as writer:
        for step in (1, 2):
            writer.panel(step, *rows)
    (warning,) = capsys.readouterr().err.splitlines()
    assert "can't write pictures: [Errno 28] No space left" in warning


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("write_bytes", OSError(errno.ENOSPC, "No space left"), "[Errno 28] No space"),
        (
            "code_rows",
            tf.errors.ResourceExhaustedError(None, None, "OOM here"),
            "OOM here",
        ),
    ],
)
def test_a_failing_projector_warns(run, monkeypatch, capsys, name, error, message):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(projector, name, fail)
    config = Config(model="dense", eval_examples=30)
    with Summaries(run, Progress(), 0) as writer:
        writer.projector(
            load_split(config, "eval"), config, build_model(config, (28, 28, 1)).encoder
        )
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"can't write the projector's files: {message}" in warning


def histograms(run):
    """The histograms [buckets, 3] that TensorBoard's reader returns, by tag."""
    accumulator = EventAccumulator(f"{run.tensorboard}/eval")
    accumulator.Reload()
    return {
        tag: tf.make_ndarray(accumulator.Tensors(tag)[0].tensor_proto)
        for tag in accumulator.Tags()["tensors"]
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float16, tf.bfloat16.as_numpy_dtype])
def test_histograms_agree_with_tensorflow(run, tmp_path, dtype):
    """All edges and the total; each bucket except for values on its edge."""
    generator = np.random.default_rng(0)
    values = {"a/kernel": generator.normal(size=(50, 40)), "a/bias": np.full(5, -3.0)}
    values = {name: v.astype(dtype) for name, v in values.items()}
    code = generator.random((12, 8)).astype(dtype)
    with Summaries(run, Progress(), 0) as writer:
        writer.histograms(1, values, code)
    found = histograms(run)
    assert set(found) == {"weights/a/kernel", "weights/a/bias", "code"}
    data_of = {f"weights/{name}": data for name, data in values.items()}
    for tag, data in (data_of | {"code": code}).items():
        summary = histogram_pb(tag, data)
        expected = tf.make_ndarray(summary.value[0].tensor)
        np.testing.assert_allclose(found[tag][:, :2], expected[:, :2], atol=1e-12)
        assert found[tag][:, 2].sum() == data.size
        assert np.abs(found[tag][:, 2] - expected[:, 2]).max() <= 2
    assert found["weights/a/bias"][-1, 2] == 5


def test_a_histogram_leaves_out_values_that_are_not_finite(run):
    code = np.array([[0.0, 1.0, np.inf], [np.nan, 0.5, -np.inf]], np.float32)
    with Summaries(run, Progress(), 0) as writer:
        writer.histograms(1, {}, code)
    buckets = histograms(run)["code"]
    assert buckets[:, 2].sum() == 3
    assert (buckets[0, 0], buckets[-1, 1]) == (0.0, 1.0)


@pytest.mark.parametrize("name", sorted({*TRAIN_METRICS, *EVAL_METRICS}))
def test_every_metric_is_described(name):
    assert name in summaries._DESCRIPTIONS


def test_new_entries_follow_the_old_ones(run):
    resumed(run, line(5), logged_step=5, evaluated_step=0)
    with Summaries(run, Progress(logged_step=5), 5) as writer:
        writer.scalars("train", 10, 1.0, {"loss": 0.5})
    with open(run.metrics_jsonl) as file:
        assert file.read() == line(5) + line(10)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_panel_is_a_png_of_three_rows(run, channels):
    generator = np.random.default_rng(0)
    rows = generator.random((3, 5, 28, 28, channels), np.float32)
    with Summaries(run, Progress(), 0) as writer:
        writer.panel(12, *rows)
    with open(f"{run.images}/panel-00000012.png", "rb") as file:
        picture = tf.io.decode_png(file.read())
    assert picture.shape == (3 * 88 + 4, 5 * 88 + 4, channels)
