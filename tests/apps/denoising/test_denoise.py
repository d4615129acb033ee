import importlib
import os
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import run_script
from PIL import Image

from aelab.apps.denoising import denoise_pictures
from aelab.apps.denoising.denoiser import Denoiser
from aelab.cli import exit_code as exit_code_of
from aelab.config import Config
from aelab.errors import UsageError
from aelab.models import build_model
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.training.run import train_and_evaluate

FIELDS = {
    "batch_size": 16,
    "train_examples": 64,
    "eval_examples": 16,
    "noise_stddev": 0.3,
    "train_steps": 4,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Finished runs of a few steps, by model; read only."""
    folder = tmp_path_factory.mktemp("runs")
    for model in ("conv", "dense"):
        train_and_evaluate(Config(model=model, **FIELDS), str(folder / model))
    return {model: str(folder / model) for model in ("conv", "dense")}


@pytest.fixture
def pictures(tmp_path):
    """A folder of pictures of several kinds, one in a sub-folder."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, shape in (
        ("gray.png", (28, 28)),
        ("color.jpg", (50, 41, 3)),
        ("sub/alpha.png", (33, 70, 4)),
    ):
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def content(folder):
    """The content of every file below `folder`, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def output_of_model(run_dir, picture):
    """The output of the best weights for a gray picture [28, 28]."""
    config, trained, *_ = load_trained(RunDirectory(run_dir), "best")
    model = build_model(config, (60, 60, 1)).model
    model.set_weights(trained.model.get_weights())
    padded = np.pad(picture, 16, mode="reflect")
    return model(padded[None, ..., None]).numpy()[0, 16:-16, 16:-16, 0]


@pytest.fixture
def exit_code(monkeypatch):
    """Runs the script in this process and returns its exit code."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["denoise.py", *map(str, arguments)])
        return exit_code_of(importlib.import_module("denoise").main)

    return call


def test_a_folder_is_denoised_into_another(runs, pictures, tmp_path):
    """In a process of its own, which writes nothing to standard error."""
    before, output = content(pictures), tmp_path / "out"
    arguments = (f"--run_dir={runs['conv']}", str(pictures), f"--output={output}")
    result = run_script("denoise", *arguments, "--compare")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"3 of 3 pictures denoised, into {output}\n"
    assert content(pictures) == before
    comparisons = {"gray-compare.png", "color-compare.png", "sub/alpha-compare.png"}
    assert set(content(output)) == set(before) | comparisons
    noisy, denoised = (pixels_of(f / "gray.png") for f in (pictures, output))
    expected = output_of_model(runs["conv"], np.float32(noisy / 255))
    assert abs(denoised - 255 * expected).max() < 0.501
    compared = pixels_of(output / "gray-compare.png")
    np.testing.assert_array_equal(compared, np.concatenate([noisy, denoised], axis=1))
    noisy, denoised = (pixels_of(f / "sub" / "alpha.png") for f in (pictures, output))
    np.testing.assert_array_equal(noisy[..., 3], denoised[..., 3])
    assert (noisy[..., :3] != denoised[..., :3]).mean() > 0.9


def test_ensemble_precision_and_checkpoint_arrive(runs, pictures, tmp_path, exit_code):
    output, name = tmp_path / "out", "gray.png"
    words = (f"--run_dir={runs['conv']}", pictures / name, f"--output={output}")
    flags = ("--ensemble", "--precision=mixed_float16", "--checkpoint=latest")
    assert exit_code(*words, *flags) == 0
    trained = load_trained(RunDirectory(runs["conv"]), "latest")
    denoiser = Denoiser(trained, precision="mixed_float16", ensemble=True)
    expected = denoiser.denoise(pixels_of(pictures / name)[..., None])[..., 0]
    np.testing.assert_array_equal(pixels_of(output / name), expected)


def test_a_jpeg_file_that_is_named_gif_is_reported(runs, pictures, tmp_path, capsys):
    """It would become a PNG file by name, with JPEG data."""
    (pictures / "color.jpg").rename(pictures / "color.gif")
    counts = denoise_pictures(runs["conv"], [str(pictures)], str(tmp_path / "out"))
    assert counts == (2, 1)
    message = "color.gif: it is JPEG and not GIF, as its name says: rename it"
    assert message in capsys.readouterr().err


def test_damaged_files_do_not_stop_the_others(
    runs, pictures, tmp_path, exit_code, capsys
):
    (pictures / "broken.png").write_bytes((pictures / "gray.png").read_bytes()[:300])
    (pictures / "text.jpg").write_text("not a picture")
    before, output = content(pictures), tmp_path / "out"
    arguments = (f"--run_dir={runs['conv']}", pictures, f"--output={output}")
    assert exit_code(*arguments, "--checkpoint=latest") == 1
    printed = capsys.readouterr()
    assert printed.out == f"3 of 5 pictures denoised, into {output}\n"
    *broken, last = printed.err.splitlines()
    for name, reason, line in zip(
        ("broken.png", "text.jpg"), ("cut off", "is not a"), broken, strict=True
    ):
        assert line.startswith(f"error: {pictures / name}: ") and reason in line
    assert last == "error: 2 of 5 pictures could not be denoised"
    assert content(pictures) == before
    assert set(content(output)) == set(before) - {"broken.png", "text.jpg"}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--run_dir=none", "IN", "--output=OUT"], ["--run_dir=none holds no run"]),
        (["--run_dir=dense", "IN", "--output=OUT"], ["--model=dense", "28 x 28"]),
        (
            ["--run_dir=conv", "IN", "--output=IN"],
            ["--output", "color.jpg", "replace"],
        ),
    ],
)
def test_bad_command_lines_are_refused(
    arguments, names, runs, pictures, tmp_path, exit_code, capsys
):
    before = content(tmp_path)
    places = {"IN": str(pictures), "OUT": str(tmp_path / "out")}
    places |= {f"={model}": f"={run_dir}" for model, run_dir in runs.items()}
    for short, path in places.items():
        arguments = [argument.replace(short, path) for argument in arguments]
    assert exit_code(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ")
    assert all(name in printed.err for name in names)
    assert content(tmp_path) == before
    assert os.listdir(tmp_path) == ["pictures"]


def test_an_output_that_cannot_be_created_is_refused(runs, pictures, tmp_path):
    (tmp_path / "file").write_text("mine")
    match = r"^--output=.*file/out can't be written: .*Not a dir"
    with pytest.raises(UsageError, match=match):
        denoise_pictures(runs["conv"], [str(pictures)], str(tmp_path / "file" / "out"))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux' /proc")
def test_an_output_that_cannot_be_written_is_refused_first(runs, pictures, monkeypatch):
    """No user can create a file in /proc."""
    monkeypatch.setattr("aelab.apps.denoising.denoise.read_picture", None)
    with pytest.raises(UsageError, match=r"^--output=/proc can't be written: .+"):
        denoise_pictures(runs["conv"], [str(pictures)], "/proc")


def test_a_comparison_with_too_long_a_name_does_not_lose_the_picture(
    runs, pictures, tmp_path, capsys
):
    name = "a" * 245 + ".png"
    (pictures / "gray.png").rename(pictures / name)
    output = tmp_path / "out"
    counts = denoise_pictures(runs["conv"], [str(pictures)], str(output), compare=True)
    assert counts == (2, 1)
    assert "name too long" in capsys.readouterr().err
    written = content(output)
    assert name in written and len(written) == 5


def test_a_folder_with_the_name_of_an_output_is_reported(
    runs, pictures, tmp_path, capsys
):
    (tmp_path / "out" / "gray.png").mkdir(parents=True)
    arguments = runs["conv"], [str(pictures)], str(tmp_path / "out")
    with pytest.raises(UsageError, match=r"gray\.png exists already \(1 of 3 files"):
        denoise_pictures(*arguments)
    counts = denoise_pictures(*arguments, overwrite=True)
    assert counts == (2, 1)
    message = capsys.readouterr().err
    assert str(pictures / "gray.png") in message and "directory" in message.lower()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "there is not enough memory for it"),
        (
            tf.errors.InternalError(None, None, "No algorithm worked!\n [Op:Conv2D]"),
            "No algorithm worked!",
        ),
    ],
)
def test_a_picture_that_does_not_fit_into_memory_does_not_stop_the_others(
    runs, pictures, tmp_path, monkeypatch, capsys, error, words
):
    denoise = Denoiser.denoise

    def fail_once(self, pixels):
        if pixels.shape == (50, 41, 3):
            raise error
        return denoise(self, pixels)

    monkeypatch.setattr(Denoiser, "denoise", fail_once)
    output = tmp_path / "out"
    assert denoise_pictures(runs["conv"], [str(pictures)], str(output)) == (2, 1)
    assert f"error: {pictures}/color.jpg: {words}\n" in capsys.readouterr().err
    assert set(content(output)) == {"gray.png", "sub/alpha.png"}


def test_a_full_disk_stops_everything(runs, pictures, tmp_path, monkeypatch):
    def write(path, picture):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr("aelab.apps.denoising.denoise.write_picture", write)
    with pytest.raises(OSError, match="No space left"):
        denoise_pictures(runs["conv"], [str(pictures)], str(tmp_path / "out"))


def test_older_output_is_replaced_on_request(runs, pictures, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(pictures, output)
    arguments = runs["conv"], [str(pictures)], str(output)
    with pytest.raises(UsageError, match="--overwrite"):
        denoise_pictures(*arguments)
    assert content(pictures) == content(output)
    counts = denoise_pictures(*arguments, overwrite=True)
    assert counts == (3, 0)
    noisy, denoised = content(pictures), content(output)
    assert set(noisy) == set(denoised)
    assert all(noisy[name] != denoised[name] for name in noisy)


@pytest.mark.parametrize(("white_level", "is_dark"), [(None, True), (4095, False)])
def test_the_white_level_counts_as_1(runs, tmp_path, capsys, white_level, is_dark):
    deep = np.random.default_rng(0).integers(0, 4096, (28, 28), np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    arguments = runs["conv"], [str(tmp_path / "a.png")], str(tmp_path / "out")
    assert denoise_pictures(*arguments, white_level=white_level) == (1, 0)
    assert ("--white_level" in capsys.readouterr().err) == is_dark
    found = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    denoiser = Denoiser(load_trained(RunDirectory(runs["conv"]), "best"))
    white = white_level or 65535
    expected = denoiser.denoise((deep / white).astype(np.float32)[..., None])[..., 0]
    assert np.abs(found - np.clip(expected, 0, 1) * white).max() <= 1
