import inspect
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from aelab.config import FIELDS, Config
from aelab.errors import UsageError
from aelab.training.optimizers import (
    OPTIMIZERS,
    LearningRate,
    LossScale,
    build_optimizer,
)

FAULTY = {"muon"} if keras.__version__.startswith("3.12.") else set()


STEP = tf.Variable(0, dtype=tf.int64)


def rates(config, total_steps):
    schedule = LearningRate(config, total_steps)
    return [float(schedule(tf.constant(step, tf.int64))) for step in range(total_steps)]


def test_registry_holds_what_config_offers():
    assert set(OPTIMIZERS) == set(FIELDS["optimizer"].metadata["choices"])


def test_registry_holds_all_that_keras_has():
    left_out = {"LossScaleOptimizer", "MultiOptimizer", "ScheduleFreeAdamW"}
    known = {
        name
        for name, value in vars(keras.optimizers).items()
        if inspect.isclass(value)
        and issubclass(value, keras.optimizers.Optimizer)
        and value is not keras.optimizers.Optimizer
    }
    assert {cls.__name__ for cls in OPTIMIZERS.values()} == known - left_out


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_names_are_the_classes_names(name):
    assert OPTIMIZERS[name].__name__.lower() == name


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_lowers_a_loss(name):
    if name in FAULTY:
        with pytest.raises(UsageError, match="--optimizer=muon fails"):
            build_optimizer(Config(optimizer=name), 60, STEP)
        return
    optimizer = build_optimizer(Config(optimizer=name, learning_rate=0.02), 60, STEP)
    weights = keras.Variable(np.full((4, 4), 0.5, np.float32), name="weights")
    optimizer.build([weights])
    for _ in range(60):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(weights - 0.1))
        optimizer.apply([tape.gradient(loss, weights.value)], [weights])
    assert float(tf.reduce_sum(tf.square(weights - 0.1))) < 16 * 0.4**2


def test_constant_rate():
    assert rates(Config(learning_rate=0.25), 5) == [0.25] * 5


def test_warm_up_rises_to_the_peak():
    config = Config(learning_rate=0.8, warmup_steps=4)
    np.testing.assert_allclose(rates(config, 6), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


@pytest.mark.parametrize("warmup_steps", [0, 10])
def test_cosine_falls_from_the_peak_towards_0(warmup_steps):
    config = Config(
        learning_rate=0.1, learning_rate_schedule="cosine", warmup_steps=warmup_steps
    )
    total = 110
    expected = []
    for t in range(total):
        done = max(t - warmup_steps, 0) / (total - warmup_steps)
        warm = min((t + 1) / warmup_steps, 1) if warmup_steps else 1
        expected.append(0.1 * (1 + math.cos(math.pi * done)) / 2 * warm)
    np.testing.assert_allclose(rates(config, total), expected, rtol=1e-6)


def test_steps_beyond_what_float32_can_count():
    config = Config(learning_rate=1, learning_rate_schedule="cosine")
    schedule = LearningRate(config, 2**26)
    half = schedule(tf.constant(2**25, tf.int64))
    assert float(half) == pytest.approx(0.5)
    one, two = (schedule(tf.constant(2**25 + d, tf.int64)) for d in (1, 2**20))
    assert float(two) < float(one) < 0.5 + 1e-6


def test_the_optimizer_follows_the_schedule():
    config = Config(optimizer="sgd", learning_rate=1, warmup_steps=4)
    step = tf.Variable(0, dtype=tf.int64)
    optimizer = build_optimizer(config, 10, step)
    weights = keras.Variable(np.zeros(1, np.float32), name="weights")
    optimizer.build([weights])
    values = []
    for _ in range(5):
        optimizer.apply([tf.constant([1.0])], [weights])
        step.assign_add(1)
        values.append(float(weights[0]))
    np.testing.assert_allclose(-np.diff([0, *values]), [0.25, 0.5, 0.75, 1, 1])


def test_the_rate_goes_on_where_an_update_was_skipped():
    """By the run's step, not by Keras' count of updates."""
    config = Config(optimizer="sgd", learning_rate=1, warmup_steps=4)
    step = tf.Variable(2, dtype=tf.int64)
    optimizer = build_optimizer(config, 10, step)
    weights = keras.Variable(np.zeros(1, np.float32), name="weights")
    optimizer.build([weights])
    optimizer.apply([tf.constant([1.0])], [weights])
    assert float(weights[0]) == -0.75


def scale_after(finite, scale=None, good_steps=0):
    """Loss scale and whether training goes on, after steps that were finite or not."""
    loss_scale = LossScale(Config(precision="mixed_float16"))
    if scale:
        loss_scale.scale.assign(scale)
    loss_scale.good_steps.assign(good_steps)
    going_on = [bool(loss_scale.update(tf.constant(value))) for value in finite]
    return loss_scale, going_on


def test_loss_scale_is_halved_and_doubled():
    loss_scale, going_on = scale_after([True, False, True, False])
    assert going_on == [True] * 4
    assert loss_scale.figures() == {"loss_scale": 2**13, "skipped_steps": 2}
    assert int(loss_scale.good_steps) == 0
    loss_scale, _ = scale_after([True], good_steps=1998)
    assert (float(loss_scale.scale), int(loss_scale.good_steps)) == (2**15, 1999)
    loss_scale, _ = scale_after([True], good_steps=1999)
    assert (float(loss_scale.scale), int(loss_scale.good_steps)) == (2**16, 0)


def test_loss_scale_has_limits():
    loss_scale, going_on = scale_after([False, False], scale=2.0)
    assert going_on == [True, False]
    assert float(loss_scale.scale) == 1
    loss_scale, _ = scale_after([True], scale=2.0**24, good_steps=1999)
    assert float(loss_scale.scale) == 2**24


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_only_float16_has_a_loss_scale(precision):
    loss_scale = LossScale(Config(precision=precision))
    loss, gradients = tf.constant(3.0), [tf.constant([1.0, 2.0])]
    assert loss_scale.scaled(loss) is loss
    assert loss_scale.unscaled(gradients) is gradients
    assert loss_scale.update(tf.constant(True))
    assert not loss_scale.update(tf.constant(False))
    assert loss_scale.figures() == {}


def test_scaling_and_unscaling_is_exact():
    loss_scale = LossScale(Config(precision="mixed_float16"))
    values = tf.constant([1 / 3, -1e-30, 5e4])
    (same,) = loss_scale.unscaled([loss_scale.scaled(values)])
    np.testing.assert_array_equal(same, values)


def test_weight_decay_takes_its_share_of_each_weight():
    config = Config(optimizer="adamw", weight_decay=0.5, learning_rate=0.02)
    optimizer = build_optimizer(config, 60, STEP)
    weights = keras.Variable(np.float32([3, -1]), name="weights")
    optimizer.build([weights])
    for number in range(1, 4):
        optimizer.apply([tf.zeros(2)], [weights])
        expected = np.array([3, -1]) * (1 - 0.02 * 0.5) ** number
        np.testing.assert_allclose(weights, expected, rtol=1e-6)
