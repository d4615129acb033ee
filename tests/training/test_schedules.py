import math

import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.training.schedules import LearningRate


def rates(config, total_steps):
    schedule = LearningRate(config, total_steps)
    return [float(schedule(tf.constant(step, tf.int64))) for step in range(total_steps)]


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
