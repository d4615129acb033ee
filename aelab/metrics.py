"""Metrics and losses, one value an example.

Each is a function `(clean, output) -> float32 [n]` of two float32 [n, H, W, C]. A mean
over a data set is the sum of these over their count, so that a last, partial batch
counts for what it holds.
"""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

Metric = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_MIN_MSE = 1e-10  # an exact copy has no PSNR; it counts as 100 dB
_SSIM_WINDOW = 11


def _mean_over_pixels(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(values, axis=[1, 2, 3])


def bce(clean: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy in nats, the mean over pixels.

    Compiled, and if `output` is the result of a sigmoid, it is computed from the logits
    in front of it: within 1e-7 of the exact value, or of its float32 rounding, also
    where the sigmoid saturates.
    """
    if not tf.is_symbolic_tensor(output) or output.op.type != "Sigmoid":
        return _mean_over_pixels(keras.ops.binary_crossentropy(clean, output))
    (logits,) = output.op.inputs
    return _mean_over_pixels(_bce_of_logits(clean, logits, output))


@tf.custom_gradient
def _bce_of_logits(
    clean: tf.Tensor, logits: tf.Tensor, output: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[None, tf.Tensor, None]]]:
    """log(1 + exp(z)) - clean z for each logit z; `output` = sigmoid(z).

    As log(1 + exp(z)) = max(z, 0) - log(max(sigmoid(z), 1 - sigmoid(z))), the sigmoid
    that is there already serves the loss, and its derivative, sigmoid(z) - clean.
    """

    def gradient(upstream: tf.Tensor) -> tuple[None, tf.Tensor, None]:
        return None, upstream * (output - clean), None

    rest = tf.math.log(tf.maximum(output, 1.0 - output))
    return tf.nn.relu(logits) - clean * logits - rest, gradient


def mse(clean: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Squared error, the mean over pixels."""
    return _mean_over_pixels(tf.math.squared_difference(clean, output))


def log_mse(clean: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Natural logarithm of the squared error's mean over pixels, at least ln 1e-10.

    But for a factor it is the PSNR, which so rises by as much in easy images as in hard
    ones.
    """
    return tf.math.log(tf.maximum(mse(clean, output), _MIN_MSE))


def psnr(clean: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Peak signal-to-noise ratio in dB, at a peak of 1: -10 log10(mse).

    `output` is clamped to [0, 1] and not rounded. At most 100 dB.
    """
    error = tf.maximum(mse(clean, tf.clip_by_value(output, 0.0, 1.0)), _MIN_MSE)
    return tf.math.log(error) * (-10.0 / math.log(10.0))


def ssim(clean: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Structural similarity (Wang et al. 2004), at most 1.

    Gaussian window of 11 pixels, or as many as the image has, and its standard
    deviation 1.5; values in [0, 1], `output` clamped to that range.
    """
    height, width = clean.shape[1:3]
    output = tf.clip_by_value(output, 0.0, 1.0)
    window = min(_SSIM_WINDOW, height, width)
    return tf.image.ssim(clean, output, max_val=1.0, filter_size=window)


LOSSES: dict[str, Metric] = {"bce": bce, "mse": mse, "log_mse": log_mse}
TRAIN_METRICS: dict[str, Metric] = {"psnr": psnr}
EVAL_METRICS: dict[str, Metric] = {"bce": bce, "mse": mse, "psnr": psnr, "ssim": ssim}
