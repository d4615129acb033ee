"""Training without clean images: what it sees, logs and chooses by."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_replicas import strategy_of

from aelab.apps.denoising import denoise_pictures
from aelab.apps.evaluation import evaluate_run
from aelab.apps.evaluation.measure import training_examples
from aelab.apps.report import write_report
from aelab.config import Config
from aelab.data.batch import Batch, EvalBatch
from aelab.data.pipeline import make_eval_dataset, make_train_dataset
from aelab.data.sources import ArraySource, load_part
from aelab.distributed.blocks import num_blocks
from aelab.errors import UsageError
from aelab.models import build_model
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.training.loops import build_train_loop, training_batches
from aelab.training.objective import evaluate_batch
from aelab.training.run import train_and_evaluate
from aelab.training.state import TrainState

CONFIG = Config(
    model="unet",
    filters=4,
    noise_stddev=0.2,
    noise_clip=False,
    loss="mse",
    batch_size=8,
    supervision="noise2void",
)
SHAPE = (16, 16, 1)


def source(count=20, shape=SHAPE):
    generator = np.random.default_rng(1)
    return ArraySource(generator.integers(0, 256, (count, *shape), dtype=np.uint8))


def batches(config, count, first=0, images=None):
    dataset = make_train_dataset(images or source(), config, first)
    return [Batch(*(part.numpy() for part in parts)) for parts in dataset.take(count)]


@pytest.fixture
def folder(tmp_path):
    """Pictures of different sizes, not small enough that crops seldom overlap."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        size = (24 + number, 30 - number)
        pixels = generator.integers(0, 256, size, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def of_folder(folder, **values):
    given = {
        "dataset": "images",
        "data_dir": str(folder),
        "image_size": 16,
        "image_channels": 1,
        "test_share": 0.0,
        "validation_examples": 1,
        "whole_pictures": True,
    }
    return dataclasses.replace(CONFIG, **(given | values))


def test_noise2void_has_one_noisy_value_for_each_pixel_for_ever():
    """Of images in memory: the same noise in all epochs, under all augmentations."""
    plain = np.concatenate([b.target for b in batches(CONFIG, 20)])
    seen = {image.tobytes() for image in plain}
    assert len(seen) == 20
    moved = dataclasses.replace(CONFIG, mirror=True, turn=True)
    for image in np.concatenate([b.target for b in batches(moved, 20)]):
        views = [np.rot90(m, k) for m in (image, image[:, ::-1]) for k in range(4)]
        assert sum(np.ascontiguousarray(view).tobytes() in seen for view in views) == 1


@pytest.mark.parametrize(
    ("cache_mb", "largest"), [(0, 0.0), (512, 0.0), (512, 0.5)], ids=str
)
def test_overlapping_squares_of_a_noisy_picture_agree(folder, cache_mb, largest):
    """Each square is a part of one of five noisy pictures, bit for bit."""
    config = of_folder(folder, cache_mb=cache_mb, noise_stddev_max=largest)
    images = load_part(config, "train")
    squares = np.concatenate([b.target for b in batches(config, 60, 0, images)])
    corners = {}  # by the value of a pixel, which no other has: its square and place
    overlaps = 0
    for square in squares[..., 0]:
        for (y, x), value in np.ndenumerate(square):
            other, oy, ox = corners.setdefault(value, (square, y, x))
            if other is square:
                continue
            top, left = max(0, oy - y), max(0, ox - x)
            bottom, right = min(16, 16 + oy - y), min(16, 16 + ox - x)
            ours = square[
                top - oy + y : bottom - oy + y, left - ox + x : right - ox + x
            ]
            np.testing.assert_array_equal(ours, other[top:bottom, left:right])
            overlaps += 1
            break
    assert overlaps > 300


@pytest.mark.parametrize("cache_mb", [0, 512])
def test_mirrored_and_turned_squares_have_the_noise_of_the_picture(folder, cache_mb):
    """All squares together have at most one value per pixel of the five pictures."""
    config = of_folder(folder, cache_mb=cache_mb, mirror=True, turn=True)
    images = load_part(config, "train")
    squares = np.concatenate([b.target for b in batches(config, 60, 0, images)])
    pixels = 5 * 30 * 30
    assert len(np.unique(squares)) <= pixels < squares.size / 20


def test_the_noise_has_the_level(folder):
    config = of_folder(folder, cache_mb=0)
    images = load_part(config, "train")
    flat = dataclasses.replace(
        config, noise_stddev=0.0, corruption="none", noise_clip=True
    )
    noisy, clean = (
        np.concatenate([b.target for b in batches(each, 30, 0, images)])
        for each in (config, flat)
    )
    noise = noisy - clean
    assert np.std(noise) == pytest.approx(0.2, rel=0.03)
    assert abs(np.mean(noise)) < 0.01


def test_the_noise_of_two_pictures_is_independent(tmp_path):
    """Each picture, of the size of a square, has the same noise in all epochs."""
    for number in range(6):
        Image.new("L", (16, 16), 100).save(tmp_path / f"{number}.png")
    seeds = {}
    for seed in (0, 2**31 - 1):
        config = of_folder(tmp_path, seed=seed)
        images = load_part(config, "train")
        squares = np.concatenate([b.target for b in batches(config, 5, 0, images)])
        noises = np.unique(squares.reshape(len(squares), -1), axis=0)
        assert len(noises) == 5
        seeds[seed] = noises
        correlation = np.corrcoef(noises)
        np.testing.assert_allclose(correlation, np.eye(5), atol=0.3)
    assert not (seeds[0][0] == seeds[2**31 - 1]).all(axis=1).any()


def test_the_target_of_noise2noise_is_a_second_draw():
    config = dataclasses.replace(CONFIG, supervision="noise2noise")
    images, clean = source(), dataclasses.replace(CONFIG, supervision="clean")
    for batch, right in zip(batches(config, 9), batches(clean, 9), strict=True):
        np.testing.assert_array_equal(batch.corrupted, right.corrupted)
        first, second = batch.corrupted - right.target, batch.target - right.target
        assert np.std(second) == pytest.approx(0.2, rel=0.1)
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1
    (evaluation,) = list(make_eval_dataset(images, config))[:1]
    batch = EvalBatch(*evaluation)
    noise = batch.corrupted - batch.clean, batch.target - batch.clean
    assert abs(np.corrcoef(*map(np.ravel, noise))[0, 1]) < 0.1
    assert batch.masked is None


def test_evaluation_by_masked_pixels_of_noisy_images():
    """Best checkpoint and early stopping go by this loss; PSNR is information."""
    autoencoder = build_model(CONFIG, SHAPE)
    (parts,) = make_eval_dataset(source(8), CONFIG)
    batch = EvalBatch(*parts)
    assert np.std(batch.corrupted - batch.clean) == pytest.approx(0.2, rel=0.1)
    np.testing.assert_array_equal(batch.target, batch.corrupted)
    hidden = np.broadcast_to(batch.mask, batch.corrupted.shape) == 1
    np.testing.assert_array_equal(batch.masked != batch.corrupted, hidden)
    assert hidden.mean() == 1 / 16
    _, values = evaluate_batch(autoencoder, CONFIG, batch)
    errors = (autoencoder.model(batch.masked) - batch.corrupted) ** 2 * batch.mask
    expected = np.sum(errors, axis=(1, 2, 3)) / np.sum(batch.mask, axis=(1, 2, 3))
    np.testing.assert_allclose(values["loss"], expected, rtol=1e-5)
    errors = np.clip(autoencoder.model(batch.corrupted), 0, 1) - batch.clean
    expected = -10 * np.log10(np.mean(errors**2, axis=(1, 2, 3)))
    np.testing.assert_allclose(values["psnr"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("replicas", "batch_size"), [(1, 8), (2, 8), (1, 256)], ids=str
)
@pytest.mark.parametrize(("model", "size"), [("unet", (16, 16)), ("dense", (10, 13))])
def test_the_loss_is_over_the_masked_pixels_of_the_global_batch(
    model, size, replicas, batch_size
):
    """Their sum divided by their number; the border may leave pixels in no cell.

    A batch of 256 is computed in blocks.
    """
    shape = (*size, 1)
    values = {"model": model, "filters": Config.filters, "batch_size": batch_size}
    config = dataclasses.replace(CONFIG, **values)
    images, strategy = source(300, shape), strategy_of(replicas)
    state = TrainState(config, shape, 10, strategy)
    blocks = num_blocks(batch_size // replicas)
    assert blocks == (4 if batch_size == 256 else 1)
    (batch,) = batches(config, 1, 0, images)
    output = state.autoencoder.model(batch.corrupted).numpy()
    errors = (output - batch.target) ** 2
    expected = (errors * batch.mask).sum() / batch.mask.sum()
    loop = build_train_loop(state, config, blocks=blocks)
    assert loop(training_batches(state, config, images), tf.constant(1, tf.int64))
    total, count = state.totals["loss"].numpy()
    assert total / count == pytest.approx(expected, rel=1e-5)
    assert set(state.totals) == {"loss", "gradient_norm"}


def train(folder, run_dir, **values):
    """Trains for six epochs on pictures; returns the last metrics."""
    given = {"validation_examples": 2, "batch_size": 4, "epochs": 6} | values
    return train_and_evaluate(of_folder(folder, **given), str(run_dir))


def lines(run_dir, split):
    text = Path(run_dir, "metrics.jsonl").read_text()
    return [e for e in map(json.loads, text.splitlines()) if e["split"] == split]


@pytest.mark.slow
@pytest.mark.parametrize("supervision", ["noise2noise", "noise2void"])
def test_metrics_without_clean_images(folder, tmp_path, supervision):
    """The loss counts; PSNR of evaluations is information, and training has none."""
    run_dir = tmp_path / "run"
    train(folder, run_dir, supervision=supervision)
    for line in lines(run_dir, "train"):
        assert not {"psnr", "mse"} & line.keys() and line["loss"] > 0
    evaluations = lines(run_dir, "eval")
    for line in evaluations:
        assert {"loss", "psnr", "ssim", "mse", "bce"} <= line.keys()
        if supervision == "noise2noise":  # whose target has noise of 0.2, too
            assert line["loss"] == pytest.approx(line["mse"] + 0.04, rel=0.1)
    best = min(evaluations, key=lambda line: line["loss"])["step"]
    assert load_trained(RunDirectory(str(run_dir)), "best").step == best
    found = evaluate_run(str(run_dir), split="validation")
    assert {"linear", "blur"} <= found.trained.baselines.keys()


@pytest.mark.parametrize("supervision", ["noise2noise", "noise2void"])
def test_baselines_learn_from_clean_images(supervision):
    config = dataclasses.replace(CONFIG, supervision=supervision)
    examples = training_examples(source(), config, 16)
    np.testing.assert_allclose(examples * 255, np.rint(examples * 255), atol=1e-4)


@pytest.mark.slow
def test_noisy_pictures_have_no_metrics_but_the_loss(folder, tmp_path):
    run_dir = tmp_path / "run"
    quiet = {"noise_stddev": 0.0, "noise_clip": True, "corruption": "none"}
    assert train(folder, run_dir, **quiet).keys() == {"loss"}
    for line in lines(run_dir, "eval"):
        assert not {"psnr", "ssim", "mse", "bce"} & line.keys()
    write_report([str(run_dir)], str(tmp_path / "report.html"))
    done = denoise_pictures(str(run_dir), [str(folder)], str(tmp_path / "out"))
    assert done == (6, 0)
    with pytest.raises(UsageError, match="--pairs"):
        evaluate_run(str(run_dir), split="validation")


@pytest.mark.slow
def test_a_run_without_clean_images_resumes_bit_for_bit(folder, tmp_path):
    values = {"mirror": True, "turn": True, "weight_average": 0.9}
    values |= {"precision": "mixed_bfloat16"}
    whole, half = tmp_path / "whole", tmp_path / "half"
    train(folder, whole, **values)
    for epochs in (3, 6):
        train(folder, half, **values, epochs=epochs)
    one, two = (
        checkpoints.load(checkpoints.newest(RunDirectory(str(run)).latest))
        for run in (whole, half)
    )
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array, err_msg=name)


@pytest.mark.slow
def test_whole_pictures_on_two_replicas_are_those_of_one(folder, tmp_path):
    one = train(folder, tmp_path / "1", train_steps=3)
    two = train(
        folder,
        tmp_path / "2",
        train_steps=3,
        strategy="mirrored",
        devices="CPU:0,CPU:1",
    )
    assert one == pytest.approx(two, rel=1e-5)


def test_a_dithered_code_has_no_blind_spots():
    config = dataclasses.replace(CONFIG, model="codec", filters=32)
    with pytest.raises(UsageError, match="whose code is dithered"):
        TrainState(config, SHAPE, 10)
