import inspect
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from aelab.config import FIELDS, Config
from aelab.errors import UsageError
from aelab.optimizers import OPTIMIZERS, LearningRate, build_optimizer

FAULTY = {"muon"} if keras.__version__.startswith("3.12.") else set()


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
            build_optimizer(Config(optimizer=name), 60)
        return
    optimizer = build_optimizer(Config(optimizer=name, learning_rate=0.02), 60)
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
    optimizer = build_optimizer(config, 10)
    weights = keras.Variable(np.zeros(1, np.float32), name="weights")
    optimizer.build([weights])
    values = []
    for _ in range(5):
        optimizer.apply([tf.constant([1.0])], [weights])
        values.append(float(weights[0]))
    np.testing.assert_allclose(-np.diff([0, *values]), [0.25, 0.5, 0.75, 1, 1])
