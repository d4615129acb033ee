"""Fixtures and functions that the tests of compression share; a pytest plugin.

PYTEST_DONT_REWRITE: tests import this module before pytest loads it as a plugin.
"""

import functools
import os

import numpy as np
import pytest
from conftest import write_idx

from aelab.apps.compression import decompress
from aelab.apps.compression.codec import open_codec
from aelab.apps.compression.compress import compress
from aelab.config import Config
from aelab.data.sources import load_part
from aelab.models import build_model
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.training.run import train_and_evaluate

EVAL_IMAGES = 40


def train(tmp_path_factory, **fields):
    """Trains a run of 160 steps or fewer, and returns its directory and metrics."""
    run_dir = str(tmp_path_factory.mktemp("codec_runs") / "run")
    config = Config(encoding_dim=16, eval_examples=EVAL_IMAGES, **fields)
    return run_dir, train_and_evaluate(config, run_dir)


@pytest.fixture(scope="session")
def codec_training(tmp_path_factory):
    """The directory and the last metrics of a run of --model=codec."""
    return train(
        tmp_path_factory,
        model="codec",
        loss="log_mse",
        rate_weight=0.05,
        learning_rate=2e-3,
        train_examples=800,
        batch_size=30,
        epochs=6,
        eval_every_epochs=6,
    )


@pytest.fixture(scope="session")
def codec_run(codec_training):
    """The directory of a run of --model=codec. Not to be changed."""
    return codec_training[0]


@pytest.fixture(scope="session")
def dense_run(tmp_path_factory):
    """The directory of a run of --model=dense. Not to be changed."""
    fields = {"train_examples": 200, "batch_size": 16, "train_steps": 20}
    return train(tmp_path_factory, model="dense", **fields)[0]


@pytest.fixture(params=["codec_run", "dense_run"])
def any_codec_run(request):
    """Each run whose code can be compressed."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def small_file(codec_run, tmp_path_factory):
    """A file of three blocks of two images, and the images that it decodes to."""
    folder = tmp_path_factory.mktemp("small")
    images = some_images(6)
    write_idx(folder / "six", images[..., 0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aelab.apps.compression.file_blocks.BLOCK_IMAGES", 2)
        compress(codec_run, [str(folder / "six")], str(folder / "six.aelab"))
    return (folder / "six.aelab").read_bytes(), decoded(codec_run, images)[..., 0]


def untrained_run(path, shape=(28, 28, 1), eval_print="none", **fields):
    """Writes a run with the initial weights, and returns its directory."""
    config = Config(**fields)
    run = RunDirectory(str(path))
    run.write(config, {"eval": eval_print, "image_shape": shape}, {})
    save_weights(run, build_model(config, shape), step=0)
    return run.path


def save_weights(run, model, step):
    """Saves a model's weights as the newest checkpoint of a run."""
    arrays = {f"model/{v.path}": v.numpy() for v in model.variables}
    for folder in (run.best, run.latest):
        checkpoints.save(folder, step, arrays | {"step": np.asarray(step)})


@functools.cache
def _garments():
    source = load_part(Config(eval_examples=300), "test")
    return source.read(np.arange(300))


def some_images(count):
    """Garments, and every seventh image noise, unlike all training images."""
    images = _garments()[np.arange(count) % 300]
    noise = np.random.default_rng(0).integers(0, 256, images[::7].shape)
    images[::7] = noise
    return images


@functools.cache
def opened(run_dir):
    """The codec of a run's best checkpoint. Not to be changed."""
    return open_codec(RunDirectory(run_dir))


def decoded(run_dir, images):
    """The output of a run's model for rounded codes."""
    codec = opened(run_dir)
    return codec.decode(codec.encode(images))


def round_trip(run_dir, paths, folder):
    """Compresses and decompresses; returns the compressed file and the result."""
    os.makedirs(folder, exist_ok=True)
    file = str(folder / "images.aelab")
    compress(run_dir, [str(path) for path in paths], file)
    return file, decompress(run_dir, file, str(folder / "out"))
