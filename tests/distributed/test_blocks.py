import functools
import os

import numpy as np
import pytest
import tensorflow as tf
from registries import BOUNDED
from stepwise import take_steps, updates

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


@functools.cache
def steps_of(config, blocks, start_of=None):
    """Five steps; each from where the same step of `start_of` in one block began."""
    starts = start_of and steps_of(start_of, 1).starts
    state = TrainState(config, SHAPE, 100)
    batches = training_batches(state, config, images(300))
    loop = build_train_loop(state, config, blocks=blocks)
    return take_steps(state, loop, batches, 5, starts)


def recipe(model, precision="float32"):
    return Config(
        model=model,
        precision=precision,
        batch_size=120,
        loss="bce" if model in BOUNDED else "mse",
        noise_stddev=0.3,
        l1_activity=1e-3,
        optimizer="sgd",
        # An update must be large compared with the rounding of a weight.
        learning_rate=2.0 if model in BOUNDED else 0.02,
    )


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_training_in_blocks_is_equal_up_to_rounding(model, precision):
    """Each step from the same state, with SGD.

    In 16 bits, blocks differ from the whole at most twice as far as 16 bits from 32.
    """
    config, full = recipe(model, precision), recipe(model)
    exact = steps_of(full, 1)
    whole = exact if config == full else steps_of(config, 1, full)
    cut = steps_of(config, 2, full)
    np.testing.assert_allclose(cut.losses, whole.losses, rtol=0.01)
    errors, limits = (
        np.linalg.norm(np.subtract(*map(updates, pair)), axis=1)
        for pair in ((cut, whole), (whole, exact))
    )
    if precision == "float32":
        limits = 1e-5 * np.linalg.norm(updates(exact), axis=1)
    assert min(limits) > 0
    assert np.median(errors / limits) <= (1 if precision == "float32" else 2)


def test_training_in_blocks_repeats_bit_for_bit():
    config = recipe("conv")
    one, two = (train(config, 2).arrays() for _ in range(2))
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
