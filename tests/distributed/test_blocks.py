import functools
import os

import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import MODELS
from aelab.data.pipeline import make_eval_dataset, num_eval_batches
from aelab.data.sources import ArraySource
from aelab.distributed.blocks import num_blocks, threads_per_op
from aelab.distributed.devices import Distribution
from aelab.models import build_model
from aelab.training.loops import (
    build_evaluate,
    build_train_loop,
    model_metrics,
    training_batches,
)
from aelab.training.state import TrainState


@pytest.mark.parametrize(
    ("rows", "blocks"),
    [
        *((1, 1), (64, 1), (127, 1), (128, 2), (130, 2), (131, 1), (192, 3), (256, 4)),
        *((512, 8), (4096, 8), (4097, 1), (4095, 7)),
    ],
)
def test_blocks_are_equal_and_large_enough(rows, blocks):
    assert num_blocks(rows) == blocks
    assert rows % blocks == 0


@pytest.mark.parametrize(
    ("cores", "virtual_cpus", "batch_size", "threads"),
    [
        *((2, 0, 128, 1), (2, 0, 16, 2), (16, 0, 128, 8), (1, 0, 128, 1)),
        *((8, 2, 256, 2), (4, 4, 128, 1), (2, 64, 2, 1)),
    ],
)
def test_operations_share_the_cores(
    cores, virtual_cpus, batch_size, threads, monkeypatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(cores))
    config = Config(
        virtual_cpus=virtual_cpus, batch_size=batch_size, strategy="mirrored"
    )
    assert threads_per_op(config) == threads


SHAPE = (8, 8, 1)


def images(count, seed=0):
    generator = np.random.default_rng(seed)
    return ArraySource(generator.integers(0, 256, (count, *SHAPE), dtype=np.uint8))


def train(config, blocks, steps=5):
    state = TrainState(config, SHAPE, 100)
    batches = training_batches(state, config, images(300))
    train_loop = build_train_loop(state, config, blocks=blocks)
    assert train_loop(batches, tf.constant(steps, tf.int64))
    return state


trained = functools.cache(train)


def recipe(model, precision="float32"):
    return Config(
        model=model,
        precision=precision,
        batch_size=120,
        noise_stddev=0.3,
        l1_activity=1e-3,
        optimizer="sgd",
        # Makes the update large compared with the rounding of so many weights.
        learning_rate=2.0 if model == "codec" else 0.1,
    )


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_training_in_blocks_is_equal_up_to_rounding(model, precision):
    """With SGD. The 16-bit limit is twice the error of 16-bit training in one block."""
    config = recipe(model, precision)
    start = weights_of(TrainState(config, SHAPE, 100))
    exact, whole = trained(recipe(model), 1), trained(config, 1)
    limit = 1e-5 * np.linalg.norm(weights_of(whole) - start)
    if precision != "float32":
        limit = 2 * distance(whole, exact)
    assert limit > 0
    cut = trained(config, 2)
    assert distance(cut, whole) <= limit
    np.testing.assert_allclose(cut.totals["loss"], whole.totals["loss"], rtol=0.01)


def weights_of(state):
    return np.concatenate(
        [np.ravel(weight) for weight in state.autoencoder.model.get_weights()]
    )


def distance(one, two):
    return np.linalg.norm(weights_of(one) - weights_of(two))


def test_training_in_blocks_repeats_bit_for_bit():
    config = recipe("conv")
    one, two = trained(config, 2).arrays(), train(config, 2).arrays()
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array)


def test_an_overflow_in_one_block_skips_the_whole_step():
    config = Config(
        model="dense", precision="mixed_float16", batch_size=128, optimizer="sgd"
    )
    state = TrainState(config, SHAPE, 100)
    before = [w.copy() for w in state.autoencoder.model.get_weights()]
    bad = np.zeros([128, *SHAPE], np.float32)
    bad[100] = np.inf
    batches = iter(tf.data.Dataset.from_tensors((bad, np.zeros_like(bad))).repeat())
    assert build_train_loop(state, config, blocks=2)(batches, tf.constant(1, tf.int64))
    assert int(state.loss_scale.skipped_steps) == 1
    for mine, start in zip(state.autoencoder.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, start)


def test_evaluation_in_blocks_is_equal_up_to_rounding():
    """The last batch of 64 has 36 images, so its weights end within a block."""
    config = Config(model="conv", batch_size=64, noise_stddev=0.3)
    model, source = build_model(config, SHAPE), images(100)

    def metrics(blocks):
        evaluate = build_evaluate(model_metrics(model, config), blocks=blocks)
        dataset = make_eval_dataset(source, config)
        return evaluate(dataset, num_eval_batches(source, config))

    expected = metrics(1)
    for blocks in (2, 4):
        for name, value in metrics(blocks).items():
            assert value == pytest.approx(expected[name], rel=1e-6, abs=1e-7), name


def test_each_device_cuts_its_own_rows():
    assert Distribution(Config(batch_size=128)).blocks == 2
    assert Distribution(Config(batch_size=100)).blocks == 1
    two = Config(batch_size=256, strategy="mirrored", devices="CPU:0,CPU:1")
    assert Distribution(two).blocks == 2
