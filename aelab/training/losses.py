"""Reconstruction losses and penalties, one value per image.

A loss is a function `(clean, output, config) -> float32 [n]`, a penalty a function
`(result, config) -> float32 [n]`, where `result` is the `Forward` of a batch.
`aelab.config.registry` has their names.
"""

import tensorflow as tf

from aelab import metrics
from aelab.config import Config
from aelab.metric_info import MIN_MSE
from aelab.training.objective import Forward, flat_code


def bce(clean: tf.Tensor, output: tf.Tensor, config: Config) -> tf.Tensor:
    """Binary cross-entropy in nats, the mean over pixels."""
    return metrics.bce(clean, output)


def mse(clean: tf.Tensor, output: tf.Tensor, config: Config) -> tf.Tensor:
    """Squared error, the mean over pixels."""
    return metrics.mse(clean, output)


def rmse(clean: tf.Tensor, output: tf.Tensor, config: Config) -> tf.Tensor:
    """Square root of the mean squared error, at least 1e-5.

    Errors of easy images, such as those with weak noise, count more than with `mse`,
    and less than with `log_mse`.
    """
    return tf.sqrt(tf.maximum(metrics.mse(clean, output), MIN_MSE))


def log_mse(clean: tf.Tensor, output: tf.Tensor, config: Config) -> tf.Tensor:
    """Natural logarithm of the mean squared error, at least ln 1e-10.

    Equal to the negative PSNR up to a factor. Easy and hard images count equally.
    """
    return tf.math.log(tf.maximum(metrics.mse(clean, output), MIN_MSE))


def l1_norm(result: Forward, config: Config) -> tf.Tensor:
    """Sum of the absolute values of an image's code.

    Keras' `ActivityRegularizer` divides the sum over a batch by the batch size. Here
    each image has its own value, so the result is the same on any number of devices.
    """
    return tf.reduce_sum(tf.abs(flat_code(result.code)), axis=1)
