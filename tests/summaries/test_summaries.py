"""The files of a run; test_tensorboard.py shows them to TensorBoard."""

import errno

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator,
)
from tensorboard.plugins.histogram.summary_v2 import histogram_pb

from aelab.config import Config
from aelab.runs.directory import RunDirectory
from aelab.summaries import projector, summaries
from aelab.summaries.summaries import Summaries

NOTHING = {"train": 0, "eval": 0}


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(str(tmp_path))
    run.write(Config(), {}, {})
    return run


def test_a_failing_picture_warns_once(run, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(summaries, "write_bytes", full)
    rows = {"clean": np.zeros((2, 28, 28, 1), np.float32)}
    with Summaries(run, NOTHING, 0) as made:
        for step in (1, 2):
            made.image("panel", rows, "Some images.", step)
    (warning,) = capsys.readouterr().err.splitlines()
    assert "can't write pictures: [Errno 28] No space left" in warning


def test_a_failing_projector_warns(run, monkeypatch, capsys):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(projector, "write_bytes", fail)
    with Summaries(run, NOTHING, 0) as made:
        made.projector(np.zeros((4, 3)), np.zeros((4, 8, 8, 1), np.uint8), None)
    (warning,) = capsys.readouterr().err.splitlines()
    assert "can't write the projector's files: [Errno 28] No space" in warning


def histograms(run):
    """Tag to [buckets, 3], from TensorBoard's reader."""
    accumulator = EventAccumulator(f"{run.tensorboard}/eval")
    accumulator.Reload()
    return {
        tag: tf.make_ndarray(accumulator.Tensors(tag)[0].tensor_proto)
        for tag in accumulator.Tags()["tensors"]
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float16, tf.bfloat16.as_numpy_dtype])
def test_histograms_equal_tensorflows(run, tmp_path, dtype):
    """All counts, and each bucket except for values on its edge."""
    generator = np.random.default_rng(0)
    values = {"a/kernel": generator.normal(size=(50, 40)), "a/bias": np.full(5, -3.0)}
    values = {name: v.astype(dtype) for name, v in values.items()}
    code = generator.random((12, 8)).astype(dtype)
    with Summaries(run, NOTHING, 0) as made:
        made.histograms(1, values, code)
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


def test_values_that_are_not_finite_are_left_out_of_a_histogram(run):
    code = np.array([[0.0, 1.0, np.inf], [np.nan, 0.5, -np.inf]], np.float32)
    with Summaries(run, NOTHING, 0) as made:
        made.histograms(1, {}, code)
    buckets = histograms(run)["code"]
    assert buckets[:, 2].sum() == 3
    assert (buckets[0, 0], buckets[-1, 1]) == (0.0, 1.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_panel_is_a_png_of_three_rows(run, channels):
    generator = np.random.default_rng(0)
    rows = {n: generator.random((5, 28, 28, channels), np.float32) for n in "abc"}
    with Summaries(run, NOTHING, 0) as made:
        made.image("panel", rows, "Some images.", 12)
    with open(f"{run.images}/panel-00000012.png", "rb") as file:
        picture = tf.io.decode_png(file.read())
    assert picture.shape == (3 * 88 + 4, 5 * 88 + 4, channels)
