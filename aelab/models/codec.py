"""The codec: encodes an image as a few integers that take few bytes."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from aelab.config import Config
from aelab.errors import UsageError
from aelab.models.common import Autoencoder, ImageShape, compose, glorot_uniform

_UNITS = (1024, 512)  # of the encoder's hidden layers; the decoder has them reversed
_MIN_PROBABILITY = 1e-9
SCALE_GAIN = 2.0  # effective learning-rate multiplier of the log-scales


class LogisticPrior(keras.layers.Layer):
    """The probability of each integer code value, hence its length in bytes.

    A factorized prior (Balle et al. 2018): the values of a code are independent, and
    each has a logistic distribution whose mean and scale are learned. An integer has
    the probability of the interval of width 1 around it.
    """

    def __init__(self, size: int):
        """For codes of `size` integers."""
        super().__init__(name="prior", dtype="float32")
        self._size = size

    def build(self, input_shape: Any = None) -> None:
        """Creates the variables, float32 [size] each."""
        self._mean = self.add_weight((self._size,), "zeros", name="mean")
        self._log_scale = self.add_weight((self._size,), "zeros", name="log_scale")
        self.built = True

    def call(self, code: tf.Tensor) -> tf.Tensor:
        """The ideal length in bytes, float32 [n], of codes, float32 [n, size].

        It is defined and differentiable for all numbers: training adds uniform noise
        of width 1 to a code, which is rounded otherwise.
        """
        # In the lower tail a difference of sigmoids keeps its digits.
        distance = tf.abs(code - self._mean)
        slope = tf.exp(-SCALE_GAIN * self._log_scale)
        upper = tf.sigmoid(-(distance - 0.5) * slope)
        lower = tf.sigmoid(-(distance + 0.5) * slope)
        nats = -tf.math.log(tf.maximum(upper - lower, _MIN_PROBABILITY))
        return tf.reduce_sum(nats, axis=1) / (8 * math.log(2))


def round_or_dither(encoded: tf.Tensor, dither: tf.Tensor | None) -> tf.Tensor:
    """The code rounded to integers, or with `dither` added in training.

    Uniform noise is a differentiable stand-in for rounding error (Balle et al. 2018).
    """
    code = keras.ops.cast(encoded, "float32")
    return keras.ops.round(code) if dither is None else code + dither


def build_codec(config: Config, image_shape: ImageShape) -> Autoencoder:
    """Builds flatten -> Dense 1024 -> Dense 512 -> Dense `encoding_dim`, and back.

    Nonlinear transform coding (Balle et al. 2018), with dense layers and GELU. The code
    is [n, encoding_dim]. The model rounds it between encoder and decoder. Its `prior`
    gives the length in bytes of a rounded code.

    Raises:
      UsageError: height or width is None.
    """
    height, width, channels = image_shape
    if height is None or width is None:
        raise UsageError("--model=codec takes images of one size only")
    size, code_size = height * width * channels, config.encoding_dim
    seeds = glorot_uniform(config.seed)
    images = keras.Input(image_shape)
    flat = keras.layers.Flatten(name="flatten")(images)
    code = _dense(flat, "code", code_size, _UNITS, seeds)
    encoder = keras.Model(images, code, name="encoder")
    code = keras.Input((code_size,))
    logits = _dense(code, "pixels", size, _UNITS[::-1], seeds)
    logits = keras.layers.Reshape(image_shape, name="reshape")(logits)
    output = keras.layers.Activation("sigmoid", dtype="float32", name="output")
    decoder = keras.Model(code, output(logits), name="decoder")
    prior = LogisticPrior(code_size)
    prior.build()
    return compose(
        encoder,
        decoder,
        image_shape,
        "codec",
        bottleneck=round_or_dither,
        dither_size=code_size,
        prior=prior,
    )


def _dense(
    x: Any, name: str, size: int, units: Sequence[int], seeds: Iterator[Any]
) -> Any:
    """Hidden layers of `units` and a linear layer `name`: [n, any] to [n, size]."""
    for number, width in enumerate(units, 1):
        x = keras.layers.Dense(
            width,
            activation="gelu",
            kernel_initializer=next(seeds),
            name=f"{name}_hidden{number}",
        )(x)
    return keras.layers.Dense(size, kernel_initializer=next(seeds), name=name)(x)
