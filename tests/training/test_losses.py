import math

import numpy as np
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


def test_log_mse_is_the_logarithm_and_finite_for_an_exact_copy():
    clean, output = pair()
    expected = np.log(np.mean((clean.numpy() - output.numpy()) ** 2, axis=(1, 2, 3)))
    np.testing.assert_allclose(losses.log_mse(clean, output, CONFIG), expected, 1e-5)
    copy = losses.log_mse(clean, clean, CONFIG)
    np.testing.assert_allclose(copy, math.log(1e-10), 1e-5)


def test_the_l1_norm_sums_over_all_tensors_of_a_code():
    code = [tf.constant([[1.0, -2.0], [0.0, 0.5]]), -tf.ones([2, 2, 2, 1])]
    result = Forward(None, code, tf.zeros([2, 1, 1, 1]))
    np.testing.assert_array_equal(losses.l1_norm(result, CONFIG), [7.0, 4.5])
