import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_script, write_idx, write_idx_folder
from PIL import Image

from aelab.apps.evaluation import evaluate_run, levels, measure, table
from aelab.apps.evaluation.table import LABELS
from aelab.config import Config
from aelab.data.pipeline import make_eval_dataset, make_train_dataset, num_eval_batches
from aelab.data.sources import load_split
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.summaries.panels import draw_panel
from aelab.training.run import train_and_evaluate

BASELINES = {"blur", "total_variation", "linear"}


def train(folder, data, **fields):
    config = Config(dataset="idx", data_dir=str(data), batch_size=8, **fields)
    train_and_evaluate(config, str(folder))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of a denoiser and of a code, with their data. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_idx_folder(folder / "data")
    train(folder / "conv", data, noise_stddev=0.5, epochs=2)
    train(folder / "dense", data, model="dense", encoding_dim=4, train_steps=3)
    return folder


@pytest.fixture
def run_dir(trained, tmp_path):
    return Path(shutil.copytree(trained / "conv", tmp_path / "run"))


@pytest.fixture
def dense_dir(trained, tmp_path):
    return Path(shutil.copytree(trained / "dense", tmp_path / "run"))


@pytest.fixture
def moved_data(trained, tmp_path):
    """A copy of the data of `run_dir`, to be damaged."""
    return shutil.copytree(trained / "data", tmp_path / "with_data_dir")


def expected_images(run_dir, **fields):
    """(clean, corrupted, output), float32 [21, 12, 16, 1], by the saved model."""
    config, model, _, _ = load_trained(RunDirectory(str(run_dir)), "best")
    config = Config(**vars(config) | fields)
    source = load_split(config, "eval")
    dataset = make_eval_dataset(source, config).take(num_eval_batches(source, config))
    batches = list(dataset.as_numpy_iterator())
    corrupted, clean = (
        np.concatenate([batch[part] for batch in batches])[: len(source)]
        for part in (0, 1)
    )
    return clean, corrupted, model.predict(corrupted, verbose=0)


def expected_psnr(clean, output):
    error = (np.clip(output, 0, 1).astype(float) - clean) ** 2
    return -10 * np.log10(error.mean((1, 2, 3)))


def clipped_noise(stddev):
    """Mean square error of gray noise images with clipped noise, and its margin.

    By numerical integration; within four standard errors of 21 images of 12 x 16
    pixels.
    """
    pixels = np.arange(256)[:, None] / 255
    noise = np.linspace(-8, 8, 4001) * stddev
    density = np.exp(-(noise**2) / (2 * stddev**2))
    error = (np.clip(pixels + noise, 0, 1) - pixels) ** 2
    expected = (error * density).sum() / density.sum() / 256
    square = (error**2 * density).sum() / density.sum() / 256
    return expected, 4 * math.sqrt((square - expected**2) / (21 * 12 * 16))


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
    result = evaluate_run(str(run_dir))
    expected, margin = clipped_noise(0.5)
    assert margin < 0.1 * expected
    assert result["input"]["mse"] == pytest.approx(expected, abs=margin)
    decibels = 10 * math.log10(1 + margin / expected)
    assert result["input"]["psnr"] == pytest.approx(
        -10 * math.log10(expected), abs=decibels
    )
    assert set(result["input"]) == {"psnr", "ssim", "mse", "bce"}


@pytest.mark.parametrize("level", [0.2, 1.3])
def test_a_level_of_the_sweep_is_the_clipped_noise_of_that_level(run_dir, level):
    result = evaluate_run(str(run_dir), noise_stddevs=[level, 0.5])
    assert [entry["noise_stddev"] for entry in result["sweep"]] == [level, 0.5]
    assert result["sweep"][1] == result["trained"]
    found = result["sweep"][0]
    expected, margin = clipped_noise(level)
    assert margin < 0.1 * expected
    assert found["input"]["mse"] == pytest.approx(expected, abs=margin)
    clean, _, output = expected_images(run_dir, noise_stddev=level)
    psnr = expected_psnr(clean, output).mean()
    assert found["output"]["psnr"] == pytest.approx(psnr, abs=1e-4)


def test_floors_stand_beside_each_level(run_dir):
    result = evaluate_run(str(run_dir), noise_stddevs=[0.1])
    for level in (result["trained"], *result["sweep"]):
        assert level["floors"].keys() == BASELINES
        assert level["images"] == level["search_images"] == 21
        assert level["training_images"] == 50
        settings = [level["floors"]["linear"]["components"]]
        settings += [level["floors"]["blur"]["sigma"]]
        settings += [level["floors"]["total_variation"]["weight"]]
        assert settings[0] in (2, 8, 32, 49) and min(settings) > 0
        for figures in level["floors"].values():
            psnr = -10 * math.log10(figures["mse"])  # of alike images: near the mean
            assert figures["psnr"] == pytest.approx(psnr, abs=0.1)
    assert result["missing"] == []
    assert json.loads((run_dir / "evaluation.json").read_text()) == result


def test_figures_of_the_trained_level_are_those_of_all_images(run_dir):
    result = evaluate_run(str(run_dir))
    for name, key in (("input", "input"), ("output", "metrics")):
        whole = result[key] | result["spread"][name]
        assert result["trained"][name] == pytest.approx(whole)


def test_median_and_worst_percent():
    psnr = np.random.default_rng(0).permutation(np.arange(250, dtype=np.float32))
    found = measure.spread({"psnr": psnr})
    assert found == {"psnr_median": 124.5, "psnr_worst_percent": 1.0}
    found = measure.spread({"psnr": psnr[:3]})
    assert found["psnr_worst_percent"] == psnr[:3].min()


def test_the_ten_worst_images_are_named_and_drawn(run_dir):
    result = evaluate_run(str(run_dir))
    clean, corrupted, output = expected_images(run_dir)
    psnr = expected_psnr(clean, output)
    order = np.argsort(psnr)[:10]
    assert [entry["image"] for entry in result["worst"]] == list(order)
    found = [entry["psnr"] for entry in result["worst"]]
    np.testing.assert_allclose(found, psnr[order], rtol=1e-5)
    picture = np.asarray(Image.open(run_dir / "evaluation-worst.png"))
    expected = draw_panel([clean[order], corrupted[order], output[order]])[..., 0]
    # The output may be rounded otherwise than in a call of its own.
    assert np.abs(picture.astype(int) - expected).max() <= 1
    assert result["pictures"] == ["evaluation-worst.png"]


def test_a_sweep_is_drawn_and_its_picture_does_not_outlive_it(run_dir):
    result = evaluate_run(str(run_dir), noise_stddevs=[0.2, 0.8], floors=False)
    names = ["evaluation-worst.png", "evaluation-sweep.png"]
    assert result["pictures"] == names
    with Image.open(run_dir / names[1]) as picture:
        assert min(picture.size) > 400
        assert len(picture.convert("RGB").getcolors(2**20)) > 10
    evaluate_run(str(run_dir))
    assert not (run_dir / names[1]).exists()


def test_another_process_writes_the_same_bytes(run_dir):
    text = table(evaluate_run(str(run_dir), noise_stddevs=(0.2, 0.7)))
    contents = [[p.read_bytes() for p in sorted(run_dir.glob("evaluation*"))]]
    arguments = (f"--run_dir={run_dir}", "--noise_stddevs=0.2,0.7")
    result = run_script("evaluate", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{text}\n"
    contents.append([p.read_bytes() for p in sorted(run_dir.glob("evaluation*"))])
    assert len(contents[0]) == 3
    assert contents[0] == contents[1]


def test_a_code_stands_beside_as_many_principal_components(dense_dir):
    result = evaluate_run(str(dense_dir), noise_stddevs=[0.1, 0.2])
    assert result["sweep"] == []
    (floor,) = result["trained"]["floors"].items()
    assert floor[0] == "principal_components"
    assert floor[1]["components"] == 4
    images = {}
    for split in ("train", "eval"):
        source = load_split(RunDirectory(str(dense_dir)).read_config(), split)
        images[split] = source.read(np.arange(len(source))) / 255
    mean = images["train"].mean(0).ravel()
    flat = {name: part.reshape(len(part), -1) - mean for name, part in images.items()}
    _, _, axes = np.linalg.svd(flat["train"], full_matrices=False)
    output = flat["eval"] @ axes[:4].T @ axes[:4] + mean
    psnr = expected_psnr(images["eval"], output.reshape(images["eval"].shape))
    assert floor[1]["psnr"] == pytest.approx(psnr.mean(), abs=1e-4)
    assert floor[1]["psnr_median"] == pytest.approx(np.median(psnr), abs=1e-4)


def test_nothing_is_asked_of_conv_without_noise(tmp_path, idx_folder):
    run_dir = train(tmp_path / "run", idx_folder, train_steps=1)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.1])
    assert (result["trained"]["floors"], result["sweep"]) == ({}, [])
    assert "no noise to take out" in table(result)


@pytest.mark.parametrize(
    ("missing", "left", "package"),
    [
        (["skimage"], {"linear"}, "scikit-image:"),
        (["sklearn"], {"blur", "total_variation"}, "scikit-learn:"),
        (["skimage", "sklearn"], set(), "scikit-image and scikit-learn:"),
    ],
)
def test_floors_whose_library_is_missing(run_dir, monkeypatch, missing, left, package):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.1])
    assert result["missing"] == missing
    assert result["sweep"][0]["floors"].keys() == left
    text = table(result)
    assert package in text and "pip install -e '.[eval]'" in text


def test_a_sweep_without_matplotlib(run_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.1], floors=False)
    assert result["pictures"] == ["evaluation-worst.png"]
    text = table(result)
    assert "needs matplotlib" in text and "pip install -e '.[report]'" in text


def test_floors_take_no_more_images_than_they_can(run_dir, monkeypatch):
    monkeypatch.setattr(levels, "_EVAL_VALUES", 5 * 12 * 16 + 3)
    monkeypatch.setattr(levels, "_TRAIN_VALUES", 30 * 12 * 16)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.5, 0.9])
    assert result["examples"] == 21
    clean, _, output = expected_images(run_dir)
    psnr = expected_psnr(clean, output)
    assert result["metrics"]["psnr"] == pytest.approx(psnr.mean(), abs=1e-4)
    for level in (result["trained"], *result["sweep"]):
        assert (level["images"], level["training_images"]) == (5, 30)
    found = result["trained"]["output"]["psnr"]
    assert found == pytest.approx(psnr[:5].mean(), abs=1e-4)
    assert "of the first 5 images" in table(result)


def test_two_images_of_any_size_are_learned_from(run_dir, monkeypatch):
    monkeypatch.setattr(levels, "_TRAIN_VALUES", 12 * 16 - 1)
    result = evaluate_run(str(run_dir))
    assert result["trained"]["floors"].keys() == BASELINES
    assert result["trained"]["training_images"] == 2


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"noise_stddev": 0.5}, {"blur", "total_variation"}),
        ({"model": "dense", "encoding_dim": 4}, set()),
    ],
)
def test_of_a_single_training_image_nothing_is_learned(
    tmp_path, idx_folder, fields, left
):
    run_dir = train(
        tmp_path / "run", idx_folder, train_examples=1, train_steps=1, **fields
    )
    result = evaluate_run(str(run_dir))
    (name,) = result["unlearned"]
    assert result["trained"]["floors"].keys() == left and name not in left
    assert result["missing"] == []
    note = f"Left out, as there is one training image alone: {LABELS[name]}."
    assert note in table(result)


def test_training_images_are_needed_for_floors_alone(run_dir, moved_data):
    (moved_data / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(UsageError, match=r"train-images.*--floors=false"):
        evaluate_run(str(run_dir), data_dir=str(moved_data))
    result = evaluate_run(
        str(run_dir), data_dir=str(moved_data), noise_stddevs=[0.1], floors=False
    )
    assert result["trained"]["floors"] == result["sweep"][0]["floors"] == {}
    assert result["missing"] == []


def test_floors_learn_from_training_examples_each_once(run_dir):
    config = RunDirectory(str(run_dir)).read_config()
    source = load_split(config, "train")
    clean = measure.training_examples(source, config, len(source))
    images = source.read(np.arange(len(source))).astype(np.float32) / 255
    found = np.array(
        [np.abs(images - image).max((1, 2, 3)).argmin() for image in clean]
    )
    assert sorted(found) == list(range(50))
    assert (clean == images[found]).all()
    pairs = make_train_dataset(source, config, 0).take(7)  # batches of 8
    expected = np.concatenate([corrupted.numpy() for corrupted, _ in pairs])[:50]
    found = measure.corrupted_examples(clean, config)
    np.testing.assert_array_equal(found, expected)


def test_training_images_are_read_once_for_all_levels(run_dir, monkeypatch):
    calls = []

    def counted(*arguments, **named):
        calls.append(arguments)
        return make_train_dataset(*arguments, **named)

    monkeypatch.setattr(measure, "make_train_dataset", counted)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.1, 0.9])
    assert len(result["sweep"]) == 2 and len(calls) == 1


def test_data_that_was_moved_is_found_by_flag(run_dir, moved_data):
    before = evaluate_run(str(run_dir))
    path = run_dir / "config.json"
    config = json.loads(path.read_text()) | {"data_dir": str(moved_data / "none")}
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match="is not a folder"):
        evaluate_run(str(run_dir))
    assert evaluate_run(str(run_dir), data_dir=str(moved_data)) == before


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


@pytest.mark.parametrize(
    ("fields", "swept"),
    [
        ({"noise_stddev": 0.5}, True),
        ({"noise_stddev": 0.1, "noise_stddev_max": 0.5}, True),
        ({"noise_stddev_max": 0.5}, True),
        ({"noise_stddev": 0.5, "corruption": "masking,gaussian"}, True),
        ({}, False),
        ({"corruption": "jpeg"}, False),
    ],
)
def test_a_sweep_has_each_level_of_noise_alone(fields, swept):
    configs = levels.sweep_configs(Config(**fields), [0.3, 0.9])
    found = [(config.noise_stddev, config.noise_stddev_max) for config in configs]
    assert found == ([(0.3, 0.0), (0.9, 0.0)] if swept else [])
