"""The codec: an image to integers that take few bytes, and back."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from aelab.config import Config
from aelab.errors import UsageError
from aelab.models.common import ImageShape, compose, glorot_uniform

_UNITS = (1024, 512)  # of the encoder's hidden layers; the decoder has them reversed
_MIN_PROBABILITY = 1e-9
SCALE_GAIN = 2.0  # by which scales learn faster than weights


class LogisticPrior(keras.layers.Layer):
    """How probable an integer is at each place of a code: how many bytes it takes.

    A factorised prior (Balle et al. 2018): the places are independent, and each has a
    logistic distribution of a mean and a scale that are learned. An integer has the
    probability of the interval of width 1 around it.
    """

    def __init__(self, size: int):
        """For codes of `size` integers."""
        super().__init__(name="prior", dtype="float32")
        self._size = size

    def build(self, input_shape: Any = None) -> None:
        """Makes the variables, float32 [size] each."""
        self._mean = self.add_weight((self._size,), "zeros", name="mean")
        self._log_scale = self.add_weight((self._size,), "zeros", name="log_scale")
        self.built = True

    def call(self, code: tf.Tensor) -> tf.Tensor:
        """Ideal length of codes, float32 [n, size], in bytes: float32 [n].

        Defined for all numbers, and its gradient too: training adds uniform noise of
        width 1 to a code where use rounds it.
        """
        # From the lower tail, where a difference of sigmoids keeps its digits.
        distance = tf.abs(code - self._mean)
        slope = tf.exp(-SCALE_GAIN * self._log_scale)
        upper = tf.sigmoid(-(distance - 0.5) * slope)
        lower = tf.sigmoid(-(distance + 0.5) * slope)
        nats = -tf.math.log(tf.maximum(upper - lower, _MIN_PROBABILITY))
        return tf.reduce_sum(nats, axis=1) / (8 * math.log(2))


def build_codec(config: Config, image_shape: ImageShape) -> Any:
    """Builds flatten -> Dense 1024 -> Dense 512 -> Dense `encoding_dim`, and back.

    Nonlinear transform coding (Balle et al. 2018), with dense layers and GELU. The code
    is [n, encoding_dim]; the model rounds it between encoder and decoder, and has a
    `prior`, which gives the bytes that a rounded code takes.

    Raises:
      UsageError: height or width is left open.
    """
    height, width, channels = image_shape
    if height is None or width is None:
        raise UsageError("--model=codec takes images of one size alone")
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
    model = compose(encoder, decoder, image_shape, "codec", keras.ops.round)
    model.prior = LogisticPrior(code_size)
    model.prior.build()
    return model


def _dense(
    x: Any, name: str, size: int, units: Sequence[int], seeds: Iterator[Any]
) -> Any:
    """Hidden layers of `units` and a linear one, `name`: [n, any] to [n, size]."""
    for number, width in enumerate(units, 1):
        x = keras.layers.Dense(
            width,
            activation="gelu",
            kernel_initializer=next(seeds),
            name=f"{name}_hidden{number}",
        )(x)
    return keras.layers.Dense(size, kernel_initializer=next(seeds), name=name)(x)
