import dataclasses
import errno
import json
import os
import shutil
import threading
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_pictures import SIZE, config_of, numbered, refusal

from aelab.apps.evaluation import evaluate_run
from aelab.config import Config
from aelab.data.batch import EvalBatch
from aelab.data.find_pictures import picture_names
from aelab.data.permutation import example_indices
from aelab.data.pipeline import (
    Share,
    make_eval_dataset,
    make_train_dataset,
    num_eval_batches,
)
from aelab.data.randomness import Key, random_bits
from aelab.data.sources import load_part, load_splits
from aelab.errors import ImageError, TrainingError, UsageError
from aelab.models import build_model
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.training.run import train_and_evaluate

COUNT = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Numbered pictures of many sizes, in two sub-folders."""
    folder = tmp_path_factory.mktemp("pictures")
    sizes = np.random.default_rng(0).integers(SIZE, 60, (COUNT, 2))
    for number, (height, width) in enumerate(sizes):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(numbered(number, height, width)).save(path)
    return str(folder)


def damage(path):
    """Truncates a picture after its header; returns its path."""
    os.truncate(path, os.path.getsize(path) - 200)
    return str(path)


def batches(source, config, first, last, share=Share()):  # noqa: B008
    dataset = make_train_dataset(source, config, first, share)
    taken = dataset.take((last - first) * share.local_replicas)
    return np.concatenate([clean.numpy() for _, clean in taken])


def places(images):
    """Checks that all images are crops; returns the (row, column, number) of each."""
    pixels = np.round(images * 255).astype(int)
    corners = pixels[:, 0, 0]
    size = images.shape[1]
    rows, columns = np.mgrid[:size, :size]
    within = np.dstack([rows, columns, np.zeros_like(rows)])
    np.testing.assert_array_equal(pixels, corners[:, None, None] + within)
    return corners


def test_a_folder_is_a_source_with_center_crops(folder):
    splits = load_splits(config_of(folder))
    names = [picture_names(folder, split) for split in ("train", "test")]
    for source, expected in zip(splits, names, strict=True):
        assert callable(source.crops)
        assert len(source) == len(expected)
        assert source.image_shape == (SIZE, SIZE, 3)
        found = source.read(np.arange(len(source)))
        for square, name in zip(found, expected, strict=True):
            whole = np.asarray(Image.open(os.path.join(folder, name)))
            top, left = (n - SIZE + 1 >> 1 for n in whole.shape[:2])
            middle = whole[top : top + SIZE, left : left + SIZE]
            np.testing.assert_array_equal(square, middle, strict=True)
    assert splits.describe()["image_shape"] == [SIZE, SIZE, 3]


def test_numbers_determine_the_crops(folder):
    source = load_part(config_of(folder, image_channels=1), "train")
    names = picture_names(folder, "train")
    generator = np.random.default_rng(0)
    indices = generator.integers(0, len(names), 100)
    numbers = generator.integers(0, 2**32, (100, 2), np.uint32)
    found = source.crops(indices, numbers)
    assert found.shape == (100, SIZE, SIZE, 1) and found.dtype == np.uint8
    for square, index, (down, right) in zip(found, indices, numbers, strict=True):
        whole = Image.open(os.path.join(folder, names[index])).convert("L")
        top = int(down / 2**32 * (whole.height - SIZE + 1))
        left = int(right / 2**32 * (whole.width - SIZE + 1))
        expected = np.asarray(whole)[top : top + SIZE, left : left + SIZE, None]
        np.testing.assert_array_equal(square, expected)


def test_the_example_and_the_seed_determine_the_crop(folder):
    config = config_of(folder)
    source = load_part(config, "train")
    first = 3 * config.batch_size
    indices = example_indices(first, 16, len(source), config.seed)
    examples = tf.constant(first, tf.int64)
    stream = tf.constant((3 << 32) + config.seed, tf.int64)
    bits = random_bits(Key(stream, examples), tf.constant(16), tf.constant(4)).numpy()
    expected = source.crops(indices.numpy(), bits.view(np.uint32)) / np.float32(255)
    np.testing.assert_array_equal(batches(source, config, 3, 5), expected)


@pytest.mark.parametrize("batch_size", [1, 5, 40, 80])
def test_an_example_does_not_depend_on_batch_size_or_first_step(folder, batch_size):
    config = config_of(folder)
    source = load_part(config, "train")
    expected = batches(source, config, 0, 10)
    other = dataclasses.replace(config, batch_size=batch_size)
    found = batches(source, other, 0, 80 // batch_size)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(batches(source, config, 7, 10), expected[56:])


def test_replicas_and_workers_make_the_same_rows(folder):
    config = config_of(folder)
    source = load_part(config, "train")
    expected = batches(source, config, 0, 3)
    together = batches(source, config, 0, 3, Share(2, 0, 2))
    np.testing.assert_array_equal(together, expected)
    workers = [batches(source, config, 0, 3, Share(2, n, 1)) for n in (0, 1)]
    rows = [part.reshape(3, 4, SIZE, SIZE, 3) for part in workers]
    np.testing.assert_array_equal(
        np.concatenate(rows, axis=1).reshape(expected.shape), expected
    )


def test_crops_do_not_depend_on_threads(folder):
    config = config_of(folder)
    source = load_part(config, "train")
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    dataset = make_train_dataset(source, config, 0).take(20).with_options(options)
    np.testing.assert_array_equal(
        np.concatenate([clean.numpy() for _, clean in dataset]),
        batches(source, config, 0, 20),
    )


def test_every_epoch_and_every_seed_has_different_crops(tmp_path):
    for number in range(4):
        Image.fromarray(numbered(number, 200, 200)).save(tmp_path / f"{number}.bmp")
    config = config_of(tmp_path)
    source = load_part(config, "train")
    found = places(batches(source, config, 0, 100))
    numbers = {tuple(place) for place in found}
    # Each picture has 193 * 193 positions, so that few of 800 crops are equal.
    assert len(numbers) > 780
    other = dataclasses.replace(config, seed=6)
    others = {tuple(place) for place in places(batches(source, other, 0, 100))}
    assert len(numbers & others) < 30
    for direction in (0, 1):
        assert set(found[:, direction]) <= set(range(193))
        histogram = np.histogram(found[:, direction], 4, (0, 193))[0]
        # 800 / 4 each, up to four standard deviations of a binomial distribution.
        assert np.abs(histogram - 200).max() < 4 * np.sqrt(800 * 0.25 * 0.75) + 5


def test_evaluation_uses_center_crops_for_every_seed(folder):
    seen = []
    for seed in (5, 6):
        config = config_of(folder, seed=seed)
        source = load_part(config, "test")
        parts = [(c.numpy(), w) for _, c, w in make_eval_dataset(source, config)]
        images = np.concatenate([clean[w.numpy() == 1] for clean, w in parts])
        seen.append(images)
        expected = source.read(np.arange(len(source))) / np.float32(255)
        np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(*seen)


def test_threads_may_read_at_the_same_time(folder):
    source = load_part(config_of(folder), "train")
    indices = np.arange(len(source))
    expected, results = source.read(indices), {}

    def read(number):
        results[number] = source.read(indices)

    threads = [threading.Thread(target=read, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for images in results.values():
        np.testing.assert_array_equal(images, expected)


def test_train_examples_takes_the_first_pictures(folder):
    whole = load_part(config_of(folder), "train")
    few = load_part(config_of(folder, train_examples=7), "train")
    indices = np.arange(7)
    assert len(few) == 7
    np.testing.assert_array_equal(few.read(indices), whole.read(indices))
    assert few.fingerprint != whole.fingerprint
    assert "--eval_examples=99" in refusal(config_of(folder, eval_examples=99))


def test_fingerprints_depend_on_names_and_sizes_in_bytes(own, tmp_path):
    config = config_of(own)
    before = load_splits(config).describe()
    moved = own.rename(tmp_path / "moved")
    config = config_of(moved)
    assert load_splits(config).describe() == before
    path = moved / picture_names(str(moved), "train")[0]
    pixels = np.array(Image.open(path))
    Image.fromarray(pixels[::-1]).save(path, quality=30)
    resaved = load_splits(config).describe()
    path.rename(moved / "renamed.jpg")
    renamed = load_splits(config).describe()
    for found in (resaved, renamed):
        assert found["train"] != before["train"]
    assert resaved["eval"] == before["eval"]


def test_identical_files_in_both_parts_are_counted(own, capsys):
    """Files of one size and with the same middle are not identical yet."""
    train, held_out = (picture_names(str(own), split) for split in ("train", "test"))
    load_splits(config_of(own))
    assert capsys.readouterr().err == ""
    assert len(held_out) > 2
    first, second = ((own / name).read_bytes() for name in train[:2])
    (own / held_out[0]).write_bytes(first)
    (own / held_out[1]).write_bytes(second)
    (own / train[2]).write_bytes(second)
    (own / held_out[2]).write_bytes(first[:-1] + b"x")
    load_splits(config_of(own))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"warning: --data_dir={own}: 2 of the {len(held_out)} pictures for evaluation "
        "are byte-identical to pictures for training, for example "
    )
    assert f"{held_out[0]}: " in line and "--split_by=folder" in line


def test_identical_files_in_one_folder_are_in_one_part(own, capsys):
    for path in sorted(own.iterdir()):
        (own / path.stem).mkdir()
        path.rename(own / path.stem / "a.jpg")
        shutil.copy(own / path.stem / "a.jpg", own / path.stem / "b.jpg")
    load_splits(config_of(own))
    assert "byte-identical" in capsys.readouterr().err
    splits = load_splits(config_of(own, split_by="folder"))
    assert capsys.readouterr().err == ""
    assert len(splits.train) + len(splits.eval) == 80 and len(splits.eval) % 2 == 0


def test_the_last_pictures_validate(folder):
    names = picture_names(folder, "train")
    splits = load_splits(config_of(folder, validation_examples=5))
    whole = load_part(config_of(folder), "train")
    for source, first, count in (
        (splits.train, 0, len(names) - 5),
        (splits.eval, len(names) - 5, 5),
    ):
        assert len(source) == count
        expected = whole.read(np.arange(first, first + count))
        np.testing.assert_array_equal(source.read(np.arange(count)), expected)


def test_whole_sub_folders_validate(own):
    for number, path in enumerate(sorted(own.iterdir())):
        (own / str(number % 8)).mkdir(exist_ok=True)
        path.rename(own / str(number % 8) / path.name)
    values = {"split_by": "folder", "test_share": 0.0}
    splits = load_splits(config_of(own, validation_examples=6, **values))
    assert (len(splits.train), len(splits.eval)) == (30, 10)
    folders = [{name.split("/")[0] for name, _ in s._files} for s in splits]
    assert not folders[0] & folders[1]
    message = refusal(config_of(own, validation_examples=39, **values))
    assert "--validation_examples=39 leaves no sub-folder to train on" in message


def test_a_run_within_the_folder_of_pictures_resumes(own, capsys):
    """Its own panels do not count as pictures, for itself and for a second run."""
    steps = {"log_every_steps": 1, "checkpoint_every_steps": 1}
    train(own, own / "run", train_steps=1, **steps)
    assert list((own / "run" / "images").glob("*.png"))
    capsys.readouterr()
    train(own, own / "run", train_steps=2, **steps)
    assert capsys.readouterr().err.count(str(own / "run")) == 1
    first = RunDirectory(str(own / "run")).read_data()
    train(own, own / "second", train_steps=1, **steps)
    assert RunDirectory(str(own / "second")).read_data() == first


def test_a_picture_that_becomes_bad_is_an_error(own):
    source = load_part(config_of(own), "train")
    names = picture_names(str(own), "train")
    damage(own / names[2])
    (own / names[3]).unlink()
    source.read(np.array([0, 1, 4]))
    for index, reason in ((2, "truncated"), (3, "No such file")):
        with pytest.raises(ImageError) as caught:
            source.read(np.array([0, index]))
        message = str(caught.value)
        assert message.startswith(f"{own / names[index]} can't be used: ")
        assert reason in message and "--max_bad_files=0 allows no more" in message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_transient_failure_is_an_error(own, monkeypatch, capsys, error, reason):
    source = load_part(config_of(own, max_bad_files=3), "train")
    path = str(own / picture_names(str(own), "train")[1])
    failing = [path]

    def open_or_fail(name, *arguments, **options):
        if name in failing:
            raise error
        return real(name, *arguments, **options)

    real = Image.open
    monkeypatch.setattr(Image, "open", open_or_fail)
    with pytest.raises(ImageError) as caught:
        source.read(np.arange(3))
    assert str(caught.value) == f"{path} can't be read: {reason}"
    with pytest.raises(type(error)) as caught:
        load_part(config_of(own, max_bad_files=3), "train")
    assert caught.value is error
    failing.clear()
    source.read(np.arange(3))
    assert capsys.readouterr().err == ""


def test_within_the_limit_the_next_picture_replaces_a_bad_one(own, capsys):
    names = picture_names(str(own), "train")
    (own / names.pop(0)).write_bytes(b"")
    source = load_part(config_of(own, max_bad_files=3), "train")
    numbers = np.random.default_rng(0).integers(0, 2**32, (5, 2), np.uint32)
    expected = source.crops(np.array([1, 4, 4, 4, 5]), numbers)
    capsys.readouterr()
    paths = [damage(own / names[n]) for n in (2, 3)]
    for _ in range(2):
        found = source.crops(np.array([1, 2, 3, 4, 5]), numbers)
        np.testing.assert_array_equal(found, expected)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for path, line in zip(paths, lines, strict=True):
        assert path in line and "the next picture replaces it" in line
    path = damage(own / names[9])
    for _ in range(2):
        with pytest.raises(ImageError, match="--max_bad_files=3 allows no more") as one:
            source.crops(np.array([9]), numbers[:1])
        assert path in str(one.value)


def test_the_first_picture_replaces_a_bad_last_one(own):
    names = picture_names(str(own), "train")
    config = config_of(own, max_bad_files=len(names), cache_mb=0)
    source = load_part(config, "train")
    first, last = source.read(np.array([0])), np.array([len(names) - 1])
    damage(own / names[-1])
    np.testing.assert_array_equal(source.read(last), first)
    for name in names[:-1]:
        (own / name).unlink()
    with pytest.raises(ImageError, match=r"no picture in .* can be read any more"):
        source.read(last)


def train(own, run_dir, model="dense", **values):
    config = config_of(own, model=model, noise_stddev=0.1, image_size=16, **values)
    return train_and_evaluate(config, str(run_dir))


def test_conv_in_color_has_the_number_of_parameters_of_the_formula():
    model, *halves = build_model(Config(model="conv"), (16, 16, 3))
    encoder = (9 * 3 + 1) * 32 + (9 * 32 + 1) * 32
    decoder = 2 * (9 * 32 + 1) * 32 + (9 * 32 + 1) * 3
    assert halves[0].count_params() == encoder == 10_144
    assert halves[1].count_params() == decoder == 19_363
    assert model.count_params() == 29_507


def test_a_run_stopped_by_a_bad_picture_resumes_with_a_higher_limit(
    own, tmp_path, capsys
):
    """Bit for bit as in a run with the higher limit from the start, in color."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    steps = {"train_steps": 6, "log_every_steps": 1, "checkpoint_every_steps": 1}
    names = picture_names(str(own), "train")
    order = example_indices(0, 40, len(names), 5).numpy()
    path = damage(own / names[order[27]])  # in the fourth batch
    with pytest.raises(TrainingError) as caught:
        train(own, cut, "conv", **steps)
    message = str(caught.value)
    assert message.startswith("training failed at step 3 (epoch ")
    assert f": {path} can't be used: " in message
    assert "\n" not in message and "Traceback" not in message
    capsys.readouterr()
    metrics = train(own, cut, "conv", max_bad_files=1, **steps)
    assert np.isfinite(list(metrics.values())).all()
    assert capsys.readouterr().err.count(path) == 1
    train(own, whole, "conv", max_bad_files=1, **steps)
    losses = [
        [json.loads(line)["loss"] for line in file.read_text().splitlines()]
        for file in (cut / "metrics.jsonl", whole / "metrics.jsonl")
    ]
    assert losses[0] == losses[1] and len(losses[0]) >= 6
    arrays, resumed = (
        checkpoints.load(checkpoints.newest(RunDirectory(str(folder)).latest))
        for folder in (whole, cut)
    )
    assert arrays["model/encoder/conv1/kernel"].shape == (3, 3, 3, 32)
    for name, array in arrays.items():
        if name.startswith(("model", "optimizer", "step")):
            np.testing.assert_array_equal(resumed[name], array, err_msg=name)
    (panel,) = (whole / "images").glob("*6.png")
    with Image.open(panel) as picture:
        assert picture.mode == "RGB"


def test_evaluation_of_a_moved_folder_and_of_a_bad_file(own, tmp_path):
    run_dir = tmp_path / "run"
    metrics = train(own, run_dir, train_steps=2)
    moved = own.rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="is not a folder"):
        evaluate_run(str(run_dir))
    result = evaluate_run(str(run_dir), "latest", str(moved), (), False)
    assert result.data.as_in_training
    assert result.metrics["psnr"] == pytest.approx(metrics["psnr"], rel=1e-6)
    path = damage(moved / picture_names(str(moved), "test")[0])
    with pytest.raises(UsageError) as caught:
        evaluate_run(str(run_dir), "latest", str(moved))
    assert str(caught.value).startswith(f"{path} can't be used: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["single", "mirrored"])
def test_a_bad_evaluation_picture_is_reported(own, tmp_path, strategy):
    run_dir = tmp_path / "run"
    path = damage(own / picture_names(str(own), "test")[0])
    with pytest.raises(TrainingError) as caught:
        train(own, run_dir, train_steps=2, strategy=strategy)
    assert f"{path} can't be used: " in str(caught.value)


def test_memory_stays_flat(tmp_path):
    """Without a cache, names and sizes of many pictures are kept, but no pixels."""
    count = 1000
    first = tmp_path / "first.png"
    Image.fromarray(numbered(0, 64, 64)).save(first)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(count):
        os.link(first, folder / f"{number:06}.png")
    config = config_of(folder, image_size=64, cache_mb=0)
    tracemalloc.start()
    try:
        source = load_part(config, "train")
        before, _ = tracemalloc.get_traced_memory()
        assert before < 600 * count  # a decoded picture has 12,288 bytes
        tracemalloc.reset_peak()
        for start in range(0, len(source), 50):
            source.read(np.arange(start, min(start + 50, len(source))))
        after, peak = tracemalloc.get_traced_memory()
        assert after - before < 100_000
        assert peak - before < 3 * 50 * 64 * 64 * 3
    finally:
        tracemalloc.stop()


def test_the_cache_changes_no_batch(own):
    values = {"image_size": 16, "mirror": True, "turn": True, "noise_stddev": 0.1}
    none, all_ = (
        batches(load_part(config, "train"), config, 0, 5)
        for config in (config_of(own, cache_mb=mb, **values) for mb in (0, 512))
    )
    np.testing.assert_array_equal(none, all_)


def test_all_parts_of_a_run_share_the_memory(tmp_path):
    big = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    for number in range(20):  # 0.75 MB each
        Image.fromarray(big).save(tmp_path / f"{number}.png")
    config = Config(dataset="images", data_dir=str(tmp_path), loss="mse", cache_mb=4)
    train, held_out = load_splits(config)
    tracemalloc.start()
    for source in (train, held_out, train):
        source.read(np.arange(len(source)))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 3.75e6 <= kept < 4.2e6


def evaluation(source, config, share=Share()):  # noqa: B008
    return [EvalBatch(*parts) for parts in make_eval_dataset(source, config, share)]


@pytest.mark.parametrize("replicas", [1, 2])
def test_whole_pictures_are_evaluated_one_by_one(own, replicas):
    config = config_of(own, whole_pictures=True, noise_stddev=0.1, image_size=16)
    source = load_part(config, "test")
    found = []
    for replica in range(replicas):
        share = Share(replicas, replica, 1)
        found += evaluation(source, config, share)
    count = -(-len(source) // replicas)
    assert num_eval_batches(source, config, replicas) == count
    assert len(found) == count * replicas
    for number, batch in enumerate(found):
        step, replica = number % count, number // count
        index = step * replicas + replica
        assert batch.weights.numpy() == [index < len(source)]
        if index < len(source):
            picture = source.picture(index)
            assert batch.clean.shape == (1, *picture.shape)
            np.testing.assert_array_equal(np.rint(batch.clean[0] * 255), picture)
            assert 0.05 < np.std(batch.corrupted - batch.clean) < 0.11


def test_the_noise_of_whole_pictures_differs_and_is_frozen(own):
    for path in own.iterdir():
        Image.fromarray(np.full((20, 24, 3), 128, np.uint8)).save(path)
    config = config_of(own, whole_pictures=True, noise_stddev=0.1, image_size=16)
    runs = [
        np.stack([batch.corrupted[0] for batch in evaluation(source, each)])
        for each in (config, dataclasses.replace(config, seed=9, batch_size=3))
        for source in [load_part(each, "test")]
    ]
    np.testing.assert_array_equal(*runs)
    flat = runs[0].reshape(len(runs[0]), -1)
    assert len(flat) > 1
    correlation = np.corrcoef(flat)
    np.testing.assert_allclose(correlation, np.eye(len(flat)), atol=0.12)
