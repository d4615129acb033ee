"""Metrics, one value per image.

Each is a function `(clean, output) -> float32 [n]` of two float32 [n, H, W, C]. A mean
over a data set is the sum of these values over their count, so that a partial last
batch counts only for the images it holds. Titles and digits are in
`aelab.metric_info`.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from aelab.config.registry import load
from aelab.metric_info import METRICS, MIN_MSE, SSIM_WINDOW

Values = dict[str, tf.Tensor]


def _mean_over_pixels(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(values, axis=[1, 2, 3])


def bce(clean: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy in nats, the mean over pixels.

    When compiled, and if `output` is the result of a sigmoid, it is computed from the
    logits: within 1e-7 of the exact value, or of its float32 rounding, even where the
    sigmoid saturates.
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

    log(1 + exp(z)) equals max(z, 0) - log(max(sigmoid(z), 1 - sigmoid(z))). So the
    sigmoid, which is computed anyway, serves both the loss and its derivative,
    sigmoid(z) - clean.
    """

    def gradient(upstream: tf.Tensor) -> tuple[None, tf.Tensor, None]:
        """The derivative by the logits."""
        return None, upstream * (output - clean), None

    rest = tf.math.log(tf.maximum(output, 1.0 - output))
    return tf.nn.relu(logits) - clean * logits - rest, gradient


def mse(clean: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Squared error, the mean over pixels."""
    return _mean_over_pixels(tf.math.squared_difference(clean, output))


def masked_mse(clean: tf.Tensor, output: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Squared error, the mean over the pixels where `mask`, [n, H, W, 1], is 1."""
    errors = tf.math.squared_difference(clean, output) * mask
    count = tf.reduce_sum(mask, axis=[1, 2, 3]) * clean.shape[-1]
    return tf.reduce_sum(errors, axis=[1, 2, 3]) / tf.maximum(count, 1.0)


def psnr(clean: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Peak signal-to-noise ratio in dB, at a peak of 1: -10 log10(mse).

    `output` is clamped to [0, 1] and not rounded. At most 100 dB.
    """
    error = tf.maximum(mse(clean, tf.clip_by_value(output, 0.0, 1.0)), MIN_MSE)
    return tf.math.log(error) * (-10.0 / math.log(10.0))


def ssim(clean: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Structural similarity (Wang et al. 2004), at most 1.

    Gaussian window of 11 pixels, or as many as the image has, and its standard
    deviation 1.5; values in [0, 1], `output` clamped to that range.
    """
    sizes = [size for size in clean.shape[1:3] if size]  # of whole pictures not known
    output = tf.clip_by_value(output, 0.0, 1.0)
    window = min([SSIM_WINDOW, *sizes])
    return tf.image.ssim(clean, output, max_val=1.0, filter_size=window)


class Sum(NamedTuple):
    """The sum of a metric over images, and their number: float32 scalars."""

    total: tf.Tensor
    count: tf.Tensor


def sum_over_images(values: Values, weights: tf.Tensor | None = None) -> dict[str, Sum]:
    """Sums each metric, float32 [n], over images.

    Args:
      values: the metrics.
      weights: float32 [n] of 1, or 0 for images to leave out even if their value is not
        finite; None counts all images.
    """

    def summed(each: tf.Tensor) -> Sum:
        """The sum of one metric."""
        ones = tf.ones_like(each) if weights is None else weights
        kept = tf.where(ones > 0, each * ones, 0.0)
        # As one vector: TensorFlow would reorder sums of scalars over blocks.
        pair = tf.stack([tf.reduce_sum(kept), tf.reduce_sum(ones)])
        return Sum(*tf.unstack(pair))

    return {name: summed(each) for name, each in values.items()}


def means(sums: Mapping[str, Sum | tf.Variable]) -> dict[str, float]:
    """Total over count for each metric; NaN where nothing was counted.

    Args:
      sums: by name, `Sum` or float32 [2].
    """
    pairs = {name: np.asarray(pair) for name, pair in sums.items()}
    return {n: float(p[0] / p[1]) if p[1] else math.nan for n, p in pairs.items()}


def image_metrics(
    clean: tf.Tensor, output: tf.Tensor, training: bool = False
) -> Values:
    """The metrics of `output`, float32 [n] each, as listed in `aelab.metric_info`.

    Args:
      clean: float32 [n, H, W, C] in [0, 1].
      output: the same shape.
      training: only those that are computed in training.
    """
    return {
        name: load(row.function, name)(clean, output)
        for name, row in METRICS.items()
        if row.function and (row.in_training or not training)
    }
