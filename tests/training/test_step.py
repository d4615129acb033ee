import dataclasses
import math
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from registries import BOUNDED
from test_optimizers import FAULTY

from aelab.config import Config
from aelab.config.registry import MODELS, OPTIMIZERS
from aelab.data.batch import Batch, EvalBatch
from aelab.data.pipeline import make_eval_dataset, make_train_dataset, num_eval_batches
from aelab.data.sources import ArraySource
from aelab.metrics import bce, means, psnr
from aelab.models import build_model
from aelab.training import objective
from aelab.training.loops import build_evaluate, build_train_loop, model_metrics
from aelab.training.objective import Forward, forward, image_losses
from aelab.training.state import TrainState
from aelab.training.step import train_step

SHAPE = (12, 16, 1)
CONFIG = Config(
    model="dense", encoding_dim=8, batch_size=8, noise_stddev=0.3, learning_rate=1e-2
)


def source(count=50):
    shape = (count, *SHAPE)
    return ArraySource(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))


def new_state(config=CONFIG):
    return TrainState(config, SHAPE, 100)


def steps(count):
    return tf.constant(count, tf.int64)


def train(config, num_steps, steps_per_call, state=None, train_loop=None):
    state = state or new_state(config)
    first = int(state.step)
    dither_size = state.autoencoder.dither_size
    batches = iter(make_train_dataset(source(), config, first, dither_size=dither_size))
    train_loop = train_loop or build_train_loop(state, config)
    for done in range(0, num_steps, steps_per_call):
        assert train_loop(batches, steps(min(steps_per_call, num_steps - done)))
    return state, train_loop


def step_by_hand(state, config, corrupted, clean):
    assert train_step(
        state, config, Batch(corrupted, clean), blocks=1, xla_per_block=False
    )


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_steps_per_call_change_nothing(name, monkeypatch):
    """Bit for bit: weights, optimizer state and the sums of metrics."""
    monkeypatch.setattr(sys.modules[__name__], "SHAPE", (16, 16, 1))
    loss = "bce" if name in BOUNDED else "mse"
    config = Config(model=name, batch_size=8, noise_stddev=0.3, loss=loss)
    state = new_state(config)
    initial = state.arrays()
    _, train_loop = train(config, 21, 1, state)
    reference = state.arrays()
    for steps_per_call in (4, 21):
        state.assign(initial)
        train(config, 21, steps_per_call, state, train_loop)
        assert_same(state.arrays(), reference)


def test_a_whole_step_in_xla_equals_a_step_without():
    """In float16, where the first steps are skipped; it resumes bit for bit."""
    # SGD, because Adam amplifies the rounding of small gradients.
    config = dataclasses.replace(
        CONFIG,
        precision="mixed_float16",
        gradient_clip_norm=1,
        optimizer="sgd",
        learning_rate=0.5,
    )
    states = []
    for use_xla, calls in ((False, (12,)), (True, (12,)), (True, (5, 7))):
        state = new_state(config)
        state.loss_scale.scale.assign(2.0**60)  # so that it overflows
        batches = iter(make_train_dataset(source(), config, 0))
        train_loop = build_train_loop(state, config, use_xla)
        for count in calls:
            assert train_loop(batches, steps(count))
        states.append(state.arrays())
    plain, whole, parts = states
    assert_same(parts, whole)
    assert plain["loss_scale/skipped_steps"] == whole["loss_scale/skipped_steps"] > 0
    assert plain["step"] == whole["step"] == 12
    for name in plain:
        np.testing.assert_allclose(whole[name], plain[name], rtol=0.02, atol=2e-3)


def test_the_loop_is_compiled_once():
    _, train_loop = train(CONFIG, 20, 3)
    assert train_loop.experimental_get_tracing_count() == 1


def test_no_steps_change_nothing():
    state = new_state()
    before = state.arrays()
    train_loop = build_train_loop(state, CONFIG)
    assert train_loop(iter(make_train_dataset(source(), CONFIG, 0)), steps(0))
    assert_same(state.arrays(), before)


def test_a_step_is_one_plain_gradient_descent():
    config = dataclasses.replace(
        CONFIG, optimizer="sgd", learning_rate=0.5, l1_activity=1e-3
    )
    state = new_state(config)
    corrupted, clean = next(iter(make_train_dataset(source(), config, 0)))
    variables = state.autoencoder.trainable_variables
    with tf.GradientTape() as tape:
        result = forward(state.autoencoder, corrupted, training=True)
        penalty = 1e-3 * tf.reduce_sum(tf.abs(result.code)) / 8
        loss = tf.reduce_mean(bce(clean, result.output)) + penalty
    gradients = tape.gradient(loss, variables)
    expected = [v - 0.5 * g for v, g in zip(variables, gradients, strict=True)]
    step_by_hand(state, config, corrupted, clean)
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-7)
    found = means(state.totals)
    norm = math.sqrt(sum(float(tf.reduce_sum(g**2)) for g in gradients))
    assert found["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert found["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    expected_psnr = float(tf.reduce_mean(psnr(clean, result.output)))
    assert found["psnr"] == pytest.approx(expected_psnr, rel=1e-5)


def test_the_sum_is_divided_by_the_global_batch():
    """Half a batch gives half the gradient, so that replicas' gradients add up."""
    config = dataclasses.replace(CONFIG, optimizer="sgd", learning_rate=1)
    corrupted, clean = next(iter(make_train_dataset(source(), config, 0)))
    whole, halves = new_state(config), new_state(config)
    start = [v.numpy() for v in whole.autoencoder.trainable_variables]
    step_by_hand(whole, config, corrupted, clean)
    moved = [np.zeros_like(v) for v in start]
    for half in (slice(0, 4), slice(4, 8)):
        halves = new_state(config)
        step_by_hand(halves, config, corrupted[half], clean[half])
        for total, v, s in zip(
            moved, halves.autoencoder.trainable_variables, start, strict=True
        ):
            total += v.numpy() - s
    for v, s, m in zip(
        whole.autoencoder.trainable_variables, start, moved, strict=True
    ):
        np.testing.assert_allclose(v.numpy() - s, m, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_l1_penalty_is_the_sum_over_the_code(weight):
    config = dataclasses.replace(CONFIG, l1_activity=weight)
    clean, output = tf.zeros([2, *SHAPE]), tf.fill([2, *SHAPE], 0.5)
    code = tf.constant([[1.0, -2.0], [0.0, 0.5]])
    expected = math.log(2) + weight * np.array([3.0, 0.5])
    losses = image_losses(config, clean, Forward(code, code, output))
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    second = tf.reshape(tf.constant([[4.0, 0.0, -1.0, 0.0], [0.5] * 4]), [2, 2, 2, 1])
    losses = image_losses(config, clean, Forward(None, [code, second], output))
    expected += weight * np.array([5.0, 2.0])
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


@pytest.mark.parametrize("use_xla", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_loop_stops_after_the_step_that_is_not_finite(bad, use_xla):
    state = new_state()
    clean = np.full((6, 8, *SHAPE), 0.5, np.float32)
    corrupted = clean.copy()
    clean[3, 0, 0, 0, 0] = bad
    batches = iter(tf.data.Dataset.from_tensor_slices((corrupted, clean)))
    finite = build_train_loop(state, CONFIG, use_xla)(batches, steps(6))
    assert not finite
    assert int(state.step) == 4
    # What the other three steps had is counted.
    assert means(state.totals)["loss"] > 0
    assert float(state.totals["gradient_norm"][1]) == 3


@pytest.mark.parametrize("use_xla", [False, True])
def test_a_gradient_that_is_not_finite_stops_the_loop(monkeypatch, use_xla):
    """The loss of a corrupt pixel is finite; its gradient is not."""

    @tf.custom_gradient
    def explode(values):
        return values, lambda upstream: upstream * math.inf

    losses = objective.image_losses
    monkeypatch.setattr(
        objective, "image_losses", lambda *inputs: explode(losses(*inputs))
    )
    state = new_state()
    before = state.arrays()
    batches = iter(make_train_dataset(source(), CONFIG, 0))
    assert not build_train_loop(state, CONFIG, use_xla)(batches, steps(5))
    after = state.arrays()
    assert after.pop("step") == 1
    assert before.pop("step") == 0
    assert_same(after, before)


@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS) - FAULTY))
def test_a_resumed_state_continues_bit_for_bit(optimizer):
    config = dataclasses.replace(CONFIG, optimizer=optimizer, warmup_steps=3)
    whole = new_state(config)
    batches = iter(make_train_dataset(source(), config, 0))
    train_loop = build_train_loop(whole, config)
    assert train_loop(batches, steps(5))
    part = whole.arrays()
    assert train_loop(batches, steps(7))
    resumed = new_state(config)
    resumed.assign(part)
    resumed, _ = train(config, 7, 7, resumed)
    assert_same(resumed.arrays(), whole.arrays())


@pytest.mark.parametrize("batch_size", [1, 7, 25, 50, 64])
def test_evaluation_is_exact_over_a_partial_last_batch(batch_size):
    """The mean over the images equals NumPy's over one batch of all."""
    config = dataclasses.replace(CONFIG, batch_size=batch_size, l1_activity=1e-3)
    model = build_model(config, SHAPE)
    evaluate = build_evaluate(model_metrics(model, config))
    dataset = make_eval_dataset(source(), config)
    found = evaluate(dataset, num_eval_batches(source(), config))

    whole = dataclasses.replace(config, batch_size=50)
    batch = EvalBatch(*next(iter(make_eval_dataset(source(), whole))))
    values = tf.function(model_metrics(model, config))(batch)
    assert found.keys() == values.keys()
    for name, value in values.items():
        expected = value.numpy().astype(np.float64).mean()
        # SSIM is a difference of numbers near 1, so it is as exact as they are.
        assert found[name] == pytest.approx(expected, rel=1e-6, abs=1e-7), name


def test_padding_that_is_not_finite_does_not_count():
    evaluate = build_evaluate(lambda batch: {"value": batch.corrupted})
    batch = (tf.constant([1.0, math.nan]), tf.zeros(2), tf.constant([1.0, 0.0]))
    assert evaluate(tf.data.Dataset.from_tensors(batch), 1) == {"value": 1.0}


@pytest.mark.parametrize(("seconds", "low", "high"), [(0.05, 0.25, 5.0), (0, 0, 0.25)])
def test_waiting_for_batches_is_counted(seconds, low, high):
    """Batches that take 0.05 seconds each to make, and batches that take none."""
    state = new_state(CONFIG)
    batch = next(iter(make_train_dataset(source(), CONFIG, 0)))

    def late(number):
        def wait():
            time.sleep(seconds)
            return np.int64(0)

        tf.numpy_function(wait, [], tf.int64)
        return batch

    batches = iter(tf.data.Dataset.range(100).map(late))
    build_train_loop(state, CONFIG)(batches, steps(0))
    state.seconds_waited.assign(0.0)
    build_train_loop(state, CONFIG)(batches, steps(6))
    assert low <= float(state.seconds_waited) <= high


def test_a_step_waits_until_the_time_of_its_batch_is_counted(monkeypatch):
    """Otherwise a processor with one core counts the step itself as waiting."""
    state, counted = new_state(CONFIG), []

    def step(state, config, batch, *options):
        def note(_):
            counted.append(float(state.seconds_waited))
            return np.True_

        return tf.ensure_shape(tf.numpy_function(note, batch[:1], tf.bool), [])

    monkeypatch.setattr("aelab.training.loops.train_step", step)
    batches = iter(make_train_dataset(source(), CONFIG, 0))
    build_train_loop(state, CONFIG)(batches, steps(4))
    assert len(set(counted)) == len(counted) == 4
    assert counted[0] > 0
    assert counted[-1] == float(state.seconds_waited)
