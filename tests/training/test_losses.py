import math

import numpy as np
import pytest
import tensorflow as tf

from aelab import metrics
from aelab.config import Config
from aelab.training import losses
from aelab.training.objective import Forward

CONFIG = Config()


def pair():
    generator = np.random.default_rng(0)
    return (tf.constant(generator.random((3, 8, 8, 1), np.float32)) for _ in "ab")


def test_bce_and_mse_are_the_metrics():
    clean, output = pair()
    for name in ("bce", "mse"):
        found = getattr(losses, name)(clean, output, CONFIG)
        np.testing.assert_array_equal(found, getattr(metrics, name)(clean, output))


@pytest.mark.parametrize(
    ("loss", "function", "least"),
    [(losses.rmse, np.sqrt, 1e-5), (losses.log_mse, np.log, math.log(1e-10))],
)
def test_losses_of_the_mse_are_finite_for_an_exact_copy(loss, function, least):
    clean, output = pair()
    mse = np.mean((clean.numpy() - output.numpy()) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(loss(clean, output, CONFIG), function(mse), 1e-5)
    copy = tf.identity(clean)
    with tf.GradientTape() as tape:
        tape.watch(copy)
        found = loss(clean, copy, CONFIG)
    np.testing.assert_allclose(found, least, 1e-5)
    np.testing.assert_array_equal(tape.gradient(found, copy), tf.zeros_like(copy))


def test_the_l1_norm_sums_over_all_tensors_of_a_code():
    code = [tf.constant([[1.0, -2.0], [0.0, 0.5]]), -tf.ones([2, 2, 2, 1])]
    result = Forward(None, code, tf.zeros([2, 1, 1, 1]))
    np.testing.assert_array_equal(losses.l1_norm(result, CONFIG), [7.0, 4.5])
