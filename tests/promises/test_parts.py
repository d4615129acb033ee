"""The parts of a data set: what trains, what validates, what only reports read."""

import json
import os

import pytest
from conftest import metric_lines, write_idx_folder

from aelab.apps.compression import compress
from aelab.apps.evaluation import evaluate_run
from aelab.apps.export import export
from aelab.apps.report.page import write_report
from aelab.config import Config
from aelab.errors import UsageError
from aelab.training.run import train_and_evaluate

TEST_FILES = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
PARTS = {"train_examples": 40, "validation_examples": 8}


def train(folder, run, **values):
    values = {"model": "dense", "batch_size": 8, "epochs": 2} | PARTS | values
    train_and_evaluate(Config(dataset="idx", data_dir=str(folder), **values), str(run))


def hide_test_images(folder):
    for name in TEST_FILES:
        os.rename(folder / name, folder / f"hidden-{name}")


def show_test_images(folder):
    for name in TEST_FILES:
        os.rename(folder / f"hidden-{name}", folder / name)


def test_only_an_evaluation_reads_the_test_images(idx_folder, tmp_path):
    run = tmp_path / "run"
    hide_test_images(idx_folder)
    train(idx_folder, run)
    train(idx_folder, run, epochs=3)
    export(str(run), str(tmp_path / "model.keras"))
    write_report([str(run)], str(tmp_path / "page.html"))
    compress(
        str(run),
        [str(idx_folder / "train-images-idx3-ubyte.gz")],
        str(tmp_path / "x.aelab"),
    )
    validated = evaluate_run(str(run), split="validation")
    with pytest.raises(UsageError, match="has no t10k-images"):
        evaluate_run(str(run))
    show_test_images(idx_folder)
    tested = evaluate_run(str(run))
    assert (validated.examples, tested.examples) == (8, 21)
    assert validated.metrics != tested.metrics


def test_a_run_is_evaluated_on_the_part_that_validates(idx_folder, tmp_path):
    train(idx_folder, tmp_path / "run")
    lines = metric_lines(tmp_path / "run", "eval")
    best = min(lines, key=lambda line: line["loss"])
    found = evaluate_run(str(tmp_path / "run"), split="validation", baselines=False)
    assert found.step == best["step"]
    for name, value in found.metrics.items():
        assert value == pytest.approx(best[name], rel=1e-6)


@pytest.mark.parametrize(
    ("held_out", "split", "checkpoint", "is_warned"),
    [
        *((8, "validation", "best", True), (8, "validation", "latest", False)),
        *((8, "test", "best", False), (0, "test", "best", True)),
    ],
)
def test_a_warning_says_that_the_checkpoint_was_chosen_on_these_images(
    idx_folder, tmp_path, capsys, held_out, split, checkpoint, is_warned
):
    train(idx_folder, tmp_path / "run", epochs=1, validation_examples=held_out)
    capsys.readouterr()
    evaluate_run(str(tmp_path / "run"), checkpoint, baselines=False, split=split)
    assert ("chose its best checkpoint" in capsys.readouterr().err) == is_warned
    content = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert content["split"] == split


def test_a_run_without_a_validation_part_is_not_evaluated_on_one(idx_folder, tmp_path):
    train(idx_folder, tmp_path / "run", epochs=1, validation_examples=0)
    with pytest.raises(UsageError, match="no validation part"):
        evaluate_run(str(tmp_path / "run"), split="validation")


def test_test_images_of_another_folder_are_reported(idx_folder, tmp_path):
    train(idx_folder, tmp_path / "run", epochs=1)
    other = write_idx_folder(tmp_path / "other")
    run = str(tmp_path / "run")
    assert evaluate_run(run, baselines=False).data.as_in_training is None
    found = evaluate_run(run, data_dir=str(other), baselines=False)
    assert found.data.as_in_training is False


def test_another_validation_part_is_another_run(idx_folder, tmp_path):
    train(idx_folder, tmp_path / "run", epochs=1)
    with pytest.raises(UsageError, match="--validation_examples: 8 -> 9"):
        train(idx_folder, tmp_path / "run", epochs=1, validation_examples=9)
