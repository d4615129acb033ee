"""A model outside of the repository is used on request only."""

import importlib
import shutil
import signal
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT, run_forked
from PIL import Image

from aelab.cli import exit_code
from aelab.config import Config
from aelab.config.registry import load
from aelab.errors import UsageError
from aelab.models import build_model
from aelab.models.codec import build_codec

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
    result = run_forked("train", *flags, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert (folder / "imported").exists()
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """`run(script, *arguments)`: runs a script in this process, in the folder.

    Returns its exit code, its errors, and whether it imported the model's module.
    """

    def run_here(script, *arguments):
        imported = folder / "imported"
        imported.unlink(missing_ok=True)
        monkeypatch.delitem(sys.modules, "mine", raising=False)
        load.cache_clear()
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            code = exit_code(importlib.import_module(script).main)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return code, capsys.readouterr().err, imported.exists()

    monkeypatch.chdir(folder)
    monkeypatch.setattr("aelab.system.startup.start_tensorflow", lambda *_: None)
    return run_here


COMMANDS = {
    "train": ("--run_dir=run", "--train_steps=8"),
    "evaluate": ("--run_dir=run", "--floors=false"),
    "export": ("--run_dir=run", "--output=model.keras", "--overwrite"),
    "denoise": ("--run_dir=run", "picture.png", "--output=clean"),
}
# These take the built-in models `codec` and `dense` only.
COMPRESSION_COMMANDS = {
    "compress": ("--run_dir=run", "picture.png", "--output=file.aelab"),
    "decompress": ("--run_dir=run", "file.aelab", "--output=pictures"),
    "rate_distortion": ("run", "--output=curve"),
}
ALL_COMMANDS = COMMANDS | COMPRESSION_COMMANDS


@pytest.mark.parametrize("script", COMMANDS)
def test_a_script_takes_the_model(run, script):
    code, errors, is_imported = run(script, *COMMANDS[script], MODEL)
    assert code == 0, errors
    assert is_imported


@pytest.mark.parametrize("script", ALL_COMMANDS)
def test_without_the_flag_no_code_runs(run, script):
    code, errors, is_imported = run(script, *ALL_COMMANDS[script])
    assert code == 2
    assert "give --model=mine:build" in errors
    assert not is_imported


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


def test_the_layers_of_a_prior_are_checked_as_well(monkeypatch):
    def build(config, image_shape):
        prior = keras.Sequential([keras.layers.Dropout(0.5), keras.layers.Dense(1)])
        return build_codec(config, image_shape)._replace(prior=prior)

    monkeypatch.setattr("aelab.models.load", lambda *_: build)
    with pytest.raises(UsageError, match=r"dropout.* has state"):
        build_model(Config(model="codec"), (8, 8, 1))


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


def test_another_model_is_refused(run):
    code, errors, is_imported = run("evaluate", "--run_dir=run", "--model=conv")
    assert code == 2
    assert "give --model=mine:build" in errors
    assert not is_imported


@pytest.mark.parametrize("model", ["conv", "mine:build"])
def test_a_run_of_a_built_in_model_is_not_resumed_with_another(run, tmp_path, model):
    run_dir = tmp_path / "run"
    shutil.copytree(ROOT / "tests/data/release-0.1.0/run", run_dir)
    files = {path: path.read_bytes() for path in run_dir.rglob("*.*")}
    code, errors, is_imported = run("train", f"--run_dir={run_dir}", f"--model={model}")
    assert code == 2
    assert f"--model={model} contradicts --run_dir={run_dir}: --model=dense" in errors
    assert not is_imported
    assert {path: path.read_bytes() for path in run_dir.rglob("*.*")} == files


def test_a_missing_function_is_named_before_anything_is_written(run, folder):
    flags = ("--model=mine:nonesuch", "--run_dir=other", *RUN)
    code, errors, _ = run("train", *flags)
    assert code == 2
    assert "error: --model=mine:nonesuch: mine has no nonesuch" in errors
    assert not (folder / "other").exists()
