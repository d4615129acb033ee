import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer

from aelab.config import Config
from aelab.config.registry import OPTIMIZERS, load
from aelab.errors import UsageError
from aelab.training.optimizers import build_optimizer

FAULTY = {"muon"} if keras.__version__.startswith("3.12.") else set()


STEP = tf.Variable(0, dtype=tf.int64)


def test_the_registry_has_all_of_keras_optimizers():
    left_out = {"LossScaleOptimizer", "MultiOptimizer", "ScheduleFreeAdamW"}
    known = {
        name
        for name, value in vars(keras.optimizers).items()
        if inspect.isclass(value)
        and issubclass(value, keras.optimizers.Optimizer)
        and value is not keras.optimizers.Optimizer
    }
    names = {target.rpartition(":")[2] for target in OPTIMIZERS.values()}
    assert names == known - left_out


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_name_is_the_name_of_its_class(name):
    assert load(OPTIMIZERS[name], name).__name__.lower() == name


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


@pytest.mark.parametrize(
    ("first", "rates"), [(0, [0.25, 0.5, 0.75, 1, 1]), (2, [0.75])]
)
def test_the_learning_rate_follows_the_steps_of_the_run(first, rates):
    """It does not follow Keras' count of updates: the run may have skipped some."""
    config = Config(optimizer="sgd", learning_rate=1, warmup_steps=4)
    step = tf.Variable(first, dtype=tf.int64)
    optimizer = build_optimizer(config, 10, step)
    weights = keras.Variable(np.zeros(1, np.float32), name="weights")
    optimizer.build([weights])
    for rate in rates:
        before = float(weights[0])
        optimizer.apply([tf.constant([1.0])], [weights])
        assert float(weights[0]) == before - rate
        step.assign_add(1)


def test_arguments_reach_the_optimizer():
    arguments = "beta_1=0.5,epsilon=1e-3,amsgrad=true"
    optimizer = build_optimizer(Config(optimizer_args=arguments), 10, STEP)
    found = optimizer.beta_1, optimizer.epsilon, optimizer.amsgrad
    assert found == (0.5, 1e-3, True)


@pytest.mark.parametrize(
    ("optimizer", "arguments", "words"),
    [
        ("sgd", "beta_1=0.9", "beta_1 is not an argument of --optimizer=sgd"),
        ("adam", "beta1=0.9", "these are beta_1, beta_2, epsilon, amsgrad, weight_"),
        ("adam", "weight_decay=true", "must be a number, not true"),
        ("sgd", "nesterov=7", "must be true or false, not 7"),
        ("sgd", "momentum=7", "--optimizer_args=momentum=7: .*momentum"),
        ("muon", "ns_steps=2.5", "ns_steps must be a whole number, not 2.5"),
    ],
)
def test_arguments_that_the_optimizer_refuses(optimizer, arguments, words):
    config = Config(optimizer=optimizer, optimizer_args=arguments)
    with pytest.raises(UsageError, match=words):
        build_optimizer(config, 10, STEP)


@pytest.mark.parametrize("momentum", ["0", "1", "0.5"])
def test_a_whole_number_is_taken_for_a_fraction(momentum):
    config = Config(optimizer="sgd", optimizer_args=f"momentum={momentum}")
    assert build_optimizer(config, 10, STEP).momentum == float(momentum)


def test_weight_decay_takes_its_share_of_each_weight():
    config = Config(optimizer="adamw", weight_decay=0.5, learning_rate=0.02)
    optimizer = build_optimizer(config, 60, STEP)
    weights = keras.Variable(np.float32([3, -1]), name="weights")
    optimizer.build([weights])
    for number in range(1, 4):
        optimizer.apply([tf.zeros(2)], [weights])
        expected = np.array([3, -1]) * (1 - 0.02 * 0.5) ** number
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_a_keras_without_the_name_of_the_sum_is_refused(monkeypatch):
    """Otherwise gradients would be summed twice, without a message."""
    monkeypatch.delattr(TFOptimizer, "_all_reduce_sum_gradients")
    with pytest.raises(UsageError, match="sums gradients in a way"):
        build_optimizer(Config(), 10, STEP)
