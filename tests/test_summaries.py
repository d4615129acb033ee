"""The files of a run; what TensorBoard makes of them is in test_tensorboard.py."""

import json

import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.run_directory import RunDirectory
from aelab.state import Progress
from aelab.summaries import Summaries


def line(step, split="train"):
    return json.dumps({"step": step, "epoch": 1.0, "split": split, "loss": 0.5}) + "\n"


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(str(tmp_path))
    run.write(Config(), {}, {})
    return run


def resumed(run, text, logged_step, evaluated_step):
    """What is left of metrics.jsonl when a run goes on with it."""
    with open(run.metrics_jsonl, "w") as file:
        file.write(text)
    progress = Progress(logged_step=logged_step, evaluated_step=evaluated_step)
    with Summaries(run, progress):
        pass
    with open(run.metrics_jsonl) as file:
        return file.read()


def test_a_line_is_json_and_in_the_file_at_once(run):
    with Summaries(run, Progress()) as summaries:
        summaries.scalars("train", 7, 1.23456789, {"loss": 0.1, "psnr": 20.5})
        with open(run.metrics_jsonl) as file:
            found = json.loads(file.read())
    expected = {"step": 7, "epoch": 1.2346, "split": "train", "loss": 0.1, "psnr": 20.5}
    assert found == expected
    assert list(found)[:3] == ["step", "epoch", "split"]


def test_a_full_disk_names_the_file_once(run):
    with Summaries(run, Progress()) as summaries:
        summaries._metrics.close()
        summaries._metrics = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
        with pytest.raises(OSError, match="No space left") as error:
            summaries.scalars("train", 7, 1.0, {"loss": 0.1})
    assert error.value.filename == run.metrics_jsonl


def test_lines_up_to_the_state_are_kept(run):
    text = line(5) + line(10) + line(10, "eval")
    assert resumed(run, text, logged_step=10, evaluated_step=10) == text


def test_lines_ahead_of_the_state_are_dropped(run):
    kept = line(5) + line(10) + line(10, "eval")
    text = kept + line(15) + line(20) + line(20, "eval")
    assert resumed(run, text, logged_step=10, evaluated_step=10) == kept


def test_an_evaluation_that_the_state_does_not_know_is_dropped(run):
    text = line(10) + line(10, "eval")
    assert resumed(run, text, logged_step=10, evaluated_step=5) == line(10)


@pytest.mark.parametrize(
    "torn", ['{"step": 11, "ep', "\x00\x00", "[]\n", '{"step": 5}\n', "5\n"]
)
def test_what_is_no_whole_line_is_dropped(run, torn):
    assert resumed(run, line(5) + torn, logged_step=50, evaluated_step=50) == line(5)


def test_a_whole_line_without_its_end_is_dropped(run):
    text = line(5) + line(10)[:-1]
    assert resumed(run, text, logged_step=50, evaluated_step=50) == line(5)


def test_new_lines_follow_the_old_ones(run):
    resumed(run, line(5), logged_step=5, evaluated_step=0)
    with Summaries(run, Progress(logged_step=5)) as summaries:
        summaries.scalars("train", 10, 1.0, {"loss": 0.5})
    with open(run.metrics_jsonl) as file:
        assert file.read() == line(5) + line(10)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_panel_is_a_png_of_three_rows(run, channels):
    generator = np.random.default_rng(0)
    rows = generator.random((3, 5, 28, 28, channels), np.float32)
    with Summaries(run, Progress()) as summaries:
        summaries.panel(12, *rows)
    with open(f"{run.images}/panel-00000012.png", "rb") as file:
        picture = tf.io.decode_png(file.read())
    assert picture.shape == (3 * 88 + 4, 5 * 88 + 4, channels)
