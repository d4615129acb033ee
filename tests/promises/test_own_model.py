"""A model outside of the repository is used on request only."""

import importlib
import signal
import sys

import numpy as np
import pytest
from conftest import run_script
from PIL import Image

from aelab.cli import exit_code
from aelab.config import Config
from aelab.errors import UsageError
from aelab.models import build_model

MODEL = "--model=mine:build"
RUN = ("--train_steps=4", "--batch_size=20")
RUN += ("--train_examples=60", "--eval_examples=20")
CODE = """
import pathlib
pathlib.Path("imported").touch()

import keras
from aelab.models import Autoencoder


def build(config, image_shape):
    encoder = keras.Sequential(
        [keras.Input(image_shape), keras.layers.Conv2D(config.encoding_dim, 2, 2)],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input(encoder.output_shape[1:]),
            keras.layers.Conv2DTranspose(image_shape[2], 2, 2, activation="sigmoid"),
        ],
        name="decoder",
    )
    images = keras.Input(image_shape)
    model = keras.Model(images, decoder(encoder(images)))
    return Autoencoder(model, encoder, decoder, size_multiple=2)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the model's module, a picture, and a run of the model."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(CODE)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    flags = (MODEL, "--encoding_dim=3", "--run_dir=run", *RUN)
    result = run_script("train", *flags, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert (folder / "imported").exists()
    return folder


COMMANDS = {
    "train": ("--run_dir=run", "--train_steps=8"),
    "evaluate": ("--run_dir=run", "--floors=false"),
    "export": ("--run_dir=run", "--output=model.keras"),
    "denoise": ("--run_dir=run", "picture.png", "--output=clean"),
}


@pytest.mark.parametrize("script", COMMANDS)
def test_every_script_takes_the_model(folder, script, monkeypatch, capsys):
    """In this process, to start TensorFlow less often."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [script, *COMMANDS[script], MODEL])
    monkeypatch.setattr("aelab.system.startup.start_tensorflow", lambda *_: None)
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = exit_code(importlib.import_module(script).main)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize("script", COMMANDS)
def test_without_the_flag_no_code_runs(folder, script):
    (folder / "imported").unlink(missing_ok=True)
    result = run_script(script, *COMMANDS[script], cwd=folder)
    assert result.returncode == 2
    assert "give --model=mine:build" in result.stderr
    assert not (folder / "imported").exists()


def test_weights_follow_from_the_seed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)

    def kernel(seed):
        config = Config(model="mine:build", encoding_dim=3, seed=seed)
        return build_model(config, (8, 8, 1)).model.get_weights()[0]

    np.testing.assert_array_equal(kernel(1), kernel(1))
    assert (kernel(1) != kernel(2)).any()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("BatchNormalization()", "batch_norm.* has state .*GroupNormalization"),
        ("Dropout(0.5)", "dropout.* has state .*dither"),
        ("Conv2D(1, 1, kernel_regularizer='l2')", "conv2d.* has a regularizer"),
        ("Conv2D(1, 1, activity_regularizer='l1')", "conv2d.* has a regularizer"),
    ],
)
def test_layers_that_the_loop_would_get_wrong_are_refused(layer, words, build_with):
    with pytest.raises(UsageError, match=f"--model=module.*:build: .*{words}"):
        build_with(layer)


def test_a_frozen_normalization_is_accepted(build_with):
    assert build_with("BatchNormalization(trainable=False)")


@pytest.fixture
def build_with(tmp_path, monkeypatch):
    """Builds the model with one more layer in its encoder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = f"module_{tmp_path.name}"  # Python imports a name only once

    def build(layer):
        images = "keras.Input(image_shape), "
        code = CODE.replace(images, f"{images}keras.layers.{layer}, ")
        (tmp_path / f"{module}.py").write_text(code)
        return build_model(Config(model=f"{module}:build"), (8, 8, 1))

    return build


def test_another_model_is_refused(folder):
    result = run_script("evaluate", "--run_dir=run", "--model=conv", cwd=folder)
    assert result.returncode == 2
    assert "give --model=mine:build" in result.stderr


def test_a_missing_function_is_named_before_anything_is_written(folder):
    flags = ("--model=mine:nonesuch", "--run_dir=other", *RUN)
    result = run_script("train", *flags, cwd=folder)
    assert result.returncode == 2
    assert "error: --model=mine:nonesuch: mine has no nonesuch" in result.stderr
    assert not (folder / "other").exists()
