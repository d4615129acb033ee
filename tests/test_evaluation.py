import json
import math

import numpy as np
import pytest
from conftest import write_idx

from aelab.config import Config
from aelab.errors import UsageError
from aelab.evaluation import evaluate_run, table
from aelab.loop import train_and_evaluate


@pytest.fixture
def run_dir(tmp_path, idx_folder):
    config = Config(
        dataset="idx",
        data_dir=str(idx_folder),
        model="conv",
        noise_stddev=0.5,
        batch_size=8,
        epochs=2,
    )
    train_and_evaluate(config, str(tmp_path / "run"))
    return tmp_path / "run"


def test_the_figures_are_those_of_training(run_dir):
    result = evaluate_run(str(run_dir), "latest")
    lines = [
        json.loads(n) for n in (run_dir / "metrics.jsonl").read_text().splitlines()
    ]
    last = [line for line in lines if line["split"] == "eval"][-1]
    assert result["checkpoint"] == "latest"
    assert result["step"] == last["step"]
    assert result["examples"] == 21
    for name, value in result["metrics"].items():
        assert value == pytest.approx(last[name], rel=1e-6), name
    assert json.loads((run_dir / "evaluation.json").read_text()) == result


def test_the_inputs_figures_are_those_of_the_clipped_noise(run_dir):
    """Gray noise images, noise 0.5, clipped: the error by numerical integration."""
    result = evaluate_run(str(run_dir))
    pixels = np.arange(256)[:, None] / 255
    noise = np.linspace(-4, 4, 4001)
    density = np.exp(-(noise**2) / (2 * 0.25))
    error = (np.clip(pixels + noise, 0, 1) - pixels) ** 2
    expected = (error * density).sum() / density.sum() / 256
    assert result["input"]["mse"] == pytest.approx(expected, rel=0.05)
    assert result["input"]["psnr"] == pytest.approx(-10 * math.log10(expected), abs=0.3)
    assert set(result["input"]) == {"psnr", "ssim", "mse", "bce"}


def test_two_evaluations_give_the_same_bytes(run_dir):
    contents = []
    for _ in range(2):
        evaluate_run(str(run_dir))
        contents.append((run_dir / "evaluation.json").read_bytes())
    assert contents[0] == contents[1]


def test_the_table_shows_input_and_output(run_dir):
    result = evaluate_run(str(run_dir))
    text = table(result)
    rows = [line.split() for line in text.splitlines()]
    assert ["input", f"{result['input']['psnr']:.2f}"] in [row[:2] for row in rows]
    assert ["output", f"{result['metrics']['psnr']:.2f}"] in [row[:2] for row in rows]
    assert "21 images" in text


def test_data_that_was_moved_is_found_by_flag(run_dir, idx_folder):
    before = evaluate_run(str(run_dir))
    moved = idx_folder.with_name("moved")
    idx_folder.rename(moved)
    with pytest.raises(UsageError, match="is not a folder"):
        evaluate_run(str(run_dir))
    assert evaluate_run(str(run_dir), data_dir=str(moved)) == before


def test_images_of_another_size_are_refused(run_dir, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for prefix in ("train", "t10k"):
        images = np.zeros((3, 20, 20), np.uint8)
        write_idx(other / f"{prefix}-images-idx3-ubyte", images)
    with pytest.raises(UsageError, match=r"\(20, 20, 1\).*\(12, 16, 1\)"):
        evaluate_run(str(run_dir), data_dir=str(other))


def test_a_folder_for_a_run_without_one_is_refused(tmp_path):
    config = Config(train_examples=8, eval_examples=8, batch_size=8, train_steps=1)
    train_and_evaluate(config, str(tmp_path / "run"))
    with pytest.raises(UsageError, match="contradicts"):
        evaluate_run(str(tmp_path / "run"), data_dir=str(tmp_path))
