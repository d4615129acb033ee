import errno
import json
import math
import os
import shutil
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import metric_lines, run_script, write_idx, write_idx_folder
from PIL import Image

from aelab.apps.evaluation import evaluate_run, levels, measure, table
from aelab.apps.evaluation.baselines import BASELINES
from aelab.apps.evaluation.evaluate import select_baselines
from aelab.apps.evaluation.table import LABELS
from aelab.config import Config
from aelab.data.pipeline import make_eval_dataset, make_train_dataset, num_eval_batches
from aelab.data.sources import load_part
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.summaries.panels import draw_panel
from aelab.system import files
from aelab.training.run import train_and_evaluate


def train(folder, data, **fields):
    config = Config(dataset="idx", data_dir=str(data), batch_size=8, **fields)
    train_and_evaluate(config, str(folder))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The runs `conv`, a denoiser, and `dense`, a code, and `data`. Read-only."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_idx_folder(folder / "data")
    train(folder / "conv", data, noise_stddev=0.5, epochs=2)
    train(folder / "dense", data, model="dense", encoding_dim=4, train_steps=3)
    return folder


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """A copy of `conv` with an evaluation of its latest weights, and the result."""
    run_dir = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(trained / "conv", run_dir)
    return run_dir, evaluate_run(str(run_dir), "latest", noise_stddevs=[0.2, 0.5, 1.3])


@pytest.fixture
def copy_run(trained, tmp_path):
    """Returns `(name, **fields) -> folder`: a copy of a run with other fields."""

    def copy(name, **fields):
        run_dir = Path(shutil.copytree(trained / name, tmp_path / "run"))
        path = run_dir / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return run_dir

    return copy


@pytest.fixture
def run_dir(copy_run):
    """A denoiser that is quick to evaluate."""
    return copy_run("dense", noise_stddev=0.5)


@pytest.fixture
def moved_data(trained, tmp_path):
    """A copy of the data, which a test may damage."""
    return shutil.copytree(trained / "data", tmp_path / "moved")


@cache
def expected_images(run_dir, **fields):
    """(clean, corrupted, output), float32 [21, 12, 16, 1], by the latest weights."""
    config, (model, *_), *_ = load_trained(RunDirectory(str(run_dir)), "latest")
    config = Config(**vars(config) | fields)
    source = load_part(config, "test")
    dataset = make_eval_dataset(source, config).take(num_eval_batches(source, config))
    batches = list(dataset.as_numpy_iterator())
    corrupted, clean = (
        np.concatenate([batch[part] for batch in batches])[: len(source)]
        for part in (0, 1)
    )
    return clean, corrupted, np.asarray(model(corrupted))


def expected_psnr(clean, output):
    error = (np.clip(output, 0, 1).astype(float) - clean) ** 2
    return -10 * np.log10(error.mean((1, 2, 3)))


def clipped_noise(stddev):
    """Mean squared error of uniform noise images with clipped noise, and its margin.

    By numerical integration. The margin is four standard errors of 21 images of 12 x 16
    pixels.
    """
    pixels = np.arange(256)[:, None] / 255
    noise = np.linspace(-8, 8, 4001) * stddev
    density = np.exp(-(noise**2) / (2 * stddev**2))
    error = (np.clip(pixels + noise, 0, 1) - pixels) ** 2
    expected = (error * density).sum() / density.sum() / 256
    square = (error**2 * density).sum() / density.sum() / 256
    return expected, 4 * math.sqrt((square - expected**2) / (21 * 12 * 16))


def test_metrics_equal_the_metrics_of_training(evaluated):
    run_dir, result = evaluated
    last = metric_lines(run_dir, "eval")[-1]
    assert result.checkpoint == "latest"
    assert result.step == last["step"]
    assert result.examples == 21
    for name, value in result.metrics.items():
        assert value == pytest.approx(last[name], rel=1e-6), name


def test_the_file_holds_the_result(evaluated):
    run_dir, result = evaluated
    values = json.loads((run_dir / "evaluation.json").read_text())
    for level, content in zip(
        (result.trained, *result.sweep),
        (values["trained"], *values["sweep"]),
        strict=True,
    ):
        assert content["floors"] == content.pop("baselines") == level.baselines
        assert content == {
            **{"corruption": level.corruption, "noise_stddev": level.noise_stddev},
            **{"images": 21, "input": level.input, "output": level.output},
            **{"floors": level.baselines, "search_images": 21, "training_images": 50},
        }
    for name in ("trained", "sweep"):
        del values[name]
    assert values == {
        **{"checkpoint": "latest", "step": result.step, "examples": 21},
        "split": "test",
        "data": {"fingerprint": result.data.fingerprint, "as_in_training": True},
        **{"metrics": result.metrics, "input": result.input, "spread": result.spread},
        "worst": result.worst,
        **{"missing": [], "unlearned": [], "pictures": result.pictures},
    }


def test_metrics_of_the_input_are_those_of_clipped_noise(evaluated):
    _, result = evaluated
    expected, margin = clipped_noise(0.5)
    assert margin < 0.1 * expected
    assert result.input["mse"] == pytest.approx(expected, abs=margin)
    decibels = 10 * math.log10(1 + margin / expected)
    assert result.input["psnr"] == pytest.approx(
        -10 * math.log10(expected), abs=decibels
    )
    assert set(result.input) == {"psnr", "ssim", "mse", "bce"}


@pytest.mark.parametrize(("index", "stddev"), [(0, 0.2), (2, 1.3)])
def test_a_level_of_the_sweep_has_clipped_noise_of_that_level(evaluated, index, stddev):
    run_dir, result = evaluated
    assert [level.noise_stddev for level in result.sweep] == [0.2, 0.5, 1.3]
    assert result.sweep[1] == result.trained
    level = result.sweep[index]
    expected, margin = clipped_noise(stddev)
    assert margin < 0.1 * expected
    assert level.input["mse"] == pytest.approx(expected, abs=margin)
    clean, _, output = expected_images(run_dir, noise_stddev=stddev)
    psnr = expected_psnr(clean, output).mean()
    assert level.output["psnr"] == pytest.approx(psnr, abs=1e-4)


def test_each_level_has_baselines(evaluated):
    _, result = evaluated
    for level in (result.trained, *result.sweep):
        assert level.baselines.keys() == BASELINES.keys()
        assert level.images == level.search_images == 21
        assert level.training_images == 50
        settings = [level.baselines["linear"]["components"]]
        settings += [level.baselines["blur"]["sigma"]]
        settings += [level.baselines["total_variation"]["weight"]]
        assert settings[0] in (2, 8, 32, 49) and min(settings) > 0
        for values in level.baselines.values():
            psnr = -10 * math.log10(values["mse"])  # near the mean for similar images
            assert values["psnr"] == pytest.approx(psnr, abs=0.1)
    assert result.missing == []


def test_the_trained_level_of_few_images_covers_all_images(evaluated):
    _, result = evaluated
    for name, overall in (("input", result.input), ("output", result.metrics)):
        level = getattr(result.trained, name)
        assert level == pytest.approx(overall | result.spread[name])


def test_median_and_worst_percent():
    psnr = np.random.default_rng(0).permutation(np.arange(250, dtype=np.float32))
    spread = measure.spread({"psnr": psnr})
    assert spread == {"psnr_median": 124.5, "psnr_worst_percent": 1.0}
    spread = measure.spread({"psnr": psnr[:3]})
    assert spread["psnr_worst_percent"] == psnr[:3].min()


def test_the_ten_worst_images_are_named_and_drawn(evaluated):
    run_dir, result = evaluated
    clean, corrupted, output = expected_images(run_dir)
    psnr = expected_psnr(clean, output)
    order = np.argsort(psnr)[:10]
    assert [worst["image"] for worst in result.worst] == list(order)
    values = [worst["psnr"] for worst in result.worst]
    np.testing.assert_allclose(values, psnr[order], rtol=1e-5)
    picture = np.asarray(Image.open(run_dir / "evaluation-worst.png"))
    expected = draw_panel([clean[order], corrupted[order], output[order]])[..., 0]
    # The output may be rounded differently in a separate call.
    assert np.abs(picture.astype(int) - expected).max() <= 1


def test_a_sweep_is_drawn_and_removed_by_an_evaluation_without_one(evaluated, tmp_path):
    run_dir = Path(shutil.copytree(evaluated[0], tmp_path / "run"))
    names = ["evaluation-worst.png", "evaluation-sweep.png"]
    assert evaluated[1].pictures == names
    with Image.open(run_dir / names[1]) as picture:
        assert min(picture.size) > 400
        assert len(picture.convert("RGB").getcolors(2**20)) > 10
    result = evaluate_run(str(run_dir), baselines=False)
    assert result.pictures == names[:1]
    assert not (run_dir / names[1]).exists()


def test_another_process_writes_the_same_bytes(run_dir):
    text = table(evaluate_run(str(run_dir), noise_stddevs=[0.2]))
    contents = [[p.read_bytes() for p in sorted(run_dir.glob("evaluation*"))]]
    arguments = (f"--run_dir={run_dir}", "--noise_stddevs=0.2")
    result = run_script("evaluate", *arguments)
    assert result.returncode == 0
    assert result.stderr.startswith("warning: the run chose its best checkpoint on")
    assert result.stdout == f"{text}\n"
    contents.append([p.read_bytes() for p in sorted(run_dir.glob("evaluation*"))])
    assert len(contents[0]) == 3
    assert contents[0] == contents[1]


def test_a_code_is_compared_with_as_many_principal_components(copy_run):
    run_dir = copy_run("dense")
    result = evaluate_run(str(run_dir), noise_stddevs=[0.1, 0.2])
    assert result.sweep == []
    ((name, values),) = result.trained.baselines.items()
    assert name == "principal_components"
    assert values["components"] == 4
    images = {}
    for split in ("train", "test"):
        source = load_part(RunDirectory(str(run_dir)).read_config(), split)
        images[split] = source.read(np.arange(len(source))) / 255
    mean = images["train"].mean(0).ravel()
    flat = {name: part.reshape(len(part), -1) - mean for name, part in images.items()}
    _, _, axes = np.linalg.svd(flat["train"], full_matrices=False)
    output = flat["test"] @ axes[:4].T @ axes[:4] + mean
    psnr = expected_psnr(images["test"], output.reshape(images["test"].shape))
    assert values["psnr"] == pytest.approx(psnr.mean(), abs=1e-4)
    assert values["psnr_median"] == pytest.approx(np.median(psnr), abs=1e-4)


def test_conv_without_noise_has_no_baselines(copy_run):
    run_dir = copy_run("conv", noise_stddev=0.0)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.1])
    assert (result.trained.baselines, result.sweep) == ({}, [])
    assert "no noise to remove" in table(result)


@pytest.mark.parametrize(
    ("is_clean", "code_shape", "expected"),
    [
        (False, (None, 4), BASELINES.keys()),
        (False, [(None, 7), (None, 14)], BASELINES.keys()),
        (True, (None, 4), {"principal_components"}),
        (True, (None, 3, 4, 15), {"principal_components"}),
        (True, (None, 3, 4, 16), set()),
        (True, [(None, 7), (None, 14)], set()),
    ],
)
def test_baselines_depend_on_the_input_and_the_size_of_the_code(
    is_clean, code_shape, expected
):
    assert select_baselines(is_clean, code_shape, (12, 16, 1)).keys() == expected


@pytest.mark.parametrize(
    ("missing", "left", "package"),
    [
        (["skimage"], {"linear"}, "scikit-image:"),
        (["sklearn"], {"blur", "total_variation"}, "scikit-learn:"),
        (["skimage", "sklearn"], set(), "scikit-image and scikit-learn:"),
    ],
)
def test_baselines_without_their_library_are_left_out(
    run_dir, monkeypatch, missing, left, package
):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.1])
    assert result.missing == missing
    assert result.sweep[0].baselines.keys() == left
    text = table(result)
    assert f"To install {package}" in text
    assert "pip install -c constraints.txt -e '.[eval]'" in text


def test_a_sweep_without_matplotlib_is_not_drawn(run_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.1], baselines=False)
    assert result.pictures == ["evaluation-worst.png"]
    text = table(result)
    assert "The sweep is not drawn. To install matplotlib:" in text
    assert "pip install -c constraints.txt -e '.[report]'" in text


def forbid_writes(monkeypatch, number):
    """Files are written by a system that answers with the errno `number`."""

    def fail(path, mode="r", *arguments, **others):
        if "w" in mode:
            raise OSError(number, os.strerror(number), path)
        return open(path, mode, *arguments, **others)

    monkeypatch.setattr(files, "open", fail, raising=False)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_run_that_may_only_be_read_has_a_table(run_dir, monkeypatch, capsys, number):
    forbid_writes(monkeypatch, number)
    before = sorted(os.listdir(run_dir))
    result = evaluate_run(str(run_dir), baselines=False)
    text = table(result)
    assert f"{result.metrics['psnr']:.2f}" in text
    assert "Pictures in the run directory" not in text
    assert sorted(os.listdir(run_dir)) == before
    *_, warning = capsys.readouterr().err.splitlines()
    assert f"--run_dir={run_dir} can't be written, the result is not kept:" in warning


def test_a_full_disk_ends_an_evaluation_after_its_table(run_dir, monkeypatch, capsys):
    forbid_writes(monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match=f"No space left.*{run_dir}"):
        evaluate_run(str(run_dir), baselines=False)
    assert "PSNR, dB" in capsys.readouterr().out


def test_baselines_use_a_limited_number_of_images(run_dir, monkeypatch):
    monkeypatch.setattr(levels, "_EVAL_VALUES", 5 * 12 * 16 + 3)
    monkeypatch.setattr(levels, "_TRAIN_VALUES", 30 * 12 * 16)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.5, 0.9])
    assert result.examples == 21
    clean, _, output = expected_images(run_dir)
    psnr = expected_psnr(clean, output)
    assert result.metrics["psnr"] == pytest.approx(psnr.mean(), abs=1e-4)
    for level in (result.trained, *result.sweep):
        assert (level.images, level.training_images) == (5, 30)
    expected = pytest.approx(psnr[:5].mean(), abs=1e-4)
    assert result.trained.output["psnr"] == expected
    assert "of the first 5 images" in table(result)


def test_noise_that_is_not_clipped_is_so_for_baselines(copy_run, monkeypatch):
    """They learn from values outside of [0, 1], and restore them."""
    run_dir, tasks = copy_run("dense", noise_stddev=0.5, noise_clip=False), []
    linear = BASELINES["linear"]

    def restore(task):
        tasks.append(task)
        return linear.restore(task)

    monkeypatch.setitem(BASELINES, "linear", linear._replace(restore=restore))
    evaluate_run(str(run_dir))
    assert tasks
    for task in tasks:
        for corrupted in (task.corrupted, task.train_corrupted):
            assert corrupted.min() < -0.5 and corrupted.max() > 1.5


def test_a_sweep_uses_fewer_images(run_dir, monkeypatch):
    monkeypatch.setattr(levels, "_SWEEP_VALUES", 5 * 12 * 16)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.5, 0.9])
    assert result.trained.images == 21
    assert [level.images for level in result.sweep] == [5, 5]
    assert "Noise levels: of the first 5 images." in table(result)


def test_baselines_learn_from_two_images_of_any_size(run_dir, monkeypatch):
    monkeypatch.setattr(levels, "_TRAIN_VALUES", 12 * 16 - 1)
    result = evaluate_run(str(run_dir))
    assert result.trained.baselines.keys() == BASELINES.keys()
    assert result.trained.training_images == 2


@pytest.mark.parametrize(
    ("noise_stddev", "left"), [(0.5, {"blur", "total_variation"}), (0.0, set())]
)
def test_no_baseline_learns_from_a_single_training_image(copy_run, noise_stddev, left):
    run_dir = copy_run("dense", noise_stddev=noise_stddev, train_examples=1)
    result = evaluate_run(str(run_dir))
    (name,) = result.unlearned
    assert result.trained.baselines.keys() == left and name not in left
    assert result.missing == []
    note = f"Left out because there is only one training image: {LABELS[name]}."
    assert note in table(result)


def test_only_baselines_need_training_images(run_dir, moved_data):
    (moved_data / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(UsageError, match=r"train-images.*--floors=false"):
        evaluate_run(str(run_dir), data_dir=str(moved_data))
    result = evaluate_run(
        str(run_dir), data_dir=str(moved_data), noise_stddevs=[0.1], baselines=False
    )
    assert result.trained.baselines == result.sweep[0].baselines == {}
    assert result.missing == []


@pytest.mark.parametrize("model", ["conv", "codec"])
def test_baselines_learn_from_each_training_example_once(trained, model):
    config = Config(
        **{"dataset": "idx", "data_dir": str(trained / "data"), "model": model},
        **{"batch_size": 8, "noise_stddev": 0.5},
    )
    source = load_part(config, "train")
    clean = measure.training_examples(source, config, len(source))
    images = source.read(np.arange(len(source))).astype(np.float32) / 255
    positions = np.array(
        [np.abs(images - image).max((1, 2, 3)).argmin() for image in clean]
    )
    assert sorted(positions) == list(range(50))
    assert (clean == images[positions]).all()
    batches = make_train_dataset(source, config, 0).take(7)  # batches of 8
    expected = np.concatenate([batch[0].numpy() for batch in batches])[:50]
    corrupted = measure.corrupted_examples(clean, config)
    np.testing.assert_array_equal(corrupted, expected)


def test_training_images_are_read_once_for_all_levels(run_dir, monkeypatch):
    calls = []

    def counted(*arguments, **named):
        calls.append(arguments)
        return make_train_dataset(*arguments, **named)

    monkeypatch.setattr(measure.pipeline, "make_train_dataset", counted)
    result = evaluate_run(str(run_dir), noise_stddevs=[0.1, 0.9])
    assert len(result.sweep) == 2 and len(calls) == 1


def test_moved_data_is_given_by_flag(run_dir, moved_data):
    before = evaluate_run(str(run_dir), baselines=False)
    path = run_dir / "config.json"
    config = json.loads(path.read_text()) | {"data_dir": str(moved_data / "none")}
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match="is not a folder"):
        evaluate_run(str(run_dir))
    moved = evaluate_run(str(run_dir), data_dir=str(moved_data), baselines=False)
    assert moved == before


def test_images_of_another_size_are_refused(run_dir, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for prefix in ("train", "t10k"):
        images = np.zeros((3, 20, 20), np.uint8)
        write_idx(other / f"{prefix}-images-idx3-ubyte", images)
    with pytest.raises(UsageError, match=r"\(20, 20, 1\).*\(12, 16, 1\)"):
        evaluate_run(str(run_dir), data_dir=str(other))


def test_a_data_folder_for_a_run_of_synthetic_images_is_refused(copy_run, tmp_path):
    run_dir = copy_run("dense", dataset="synthetic", data_dir="")
    with pytest.raises(UsageError, match="contradicts"):
        evaluate_run(str(run_dir), data_dir=str(tmp_path))


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
def test_only_runs_with_gaussian_noise_have_a_sweep(fields, swept):
    configs = levels.sweep_configs(Config(**fields), [0.3, 0.9])
    levels_of_noise = [
        (config.noise_stddev, config.noise_stddev_max) for config in configs
    ]
    assert levels_of_noise == ([(0.3, 0.0), (0.9, 0.0)] if swept else [])
