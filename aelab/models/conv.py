"""The convolutional autoencoder: takes noise out of images."""

from collections.abc import Iterator
from typing import Any

import keras

from aelab.config import Config
from aelab.errors import UsageError
from aelab.models.building import compose, glorot_uniform

_FILTERS = 32
_POOLING = 4  # two poolings by 2


def build_conv(config: Config, image_shape: tuple[int, int, int]) -> Any:
    """Builds [Conv, MaxPool] x 2, [Conv, UpSample] x 2, Conv to the image, sigmoid.

    The textbook's denoiser (Chollet, "Building Autoencoders in Keras", 2016): 3x3
    kernels, 32 filters, relu, 'same' padding; 28,353 parameters for one channel. The
    code is [n, H/4, W/4, 32].

    Raises:
      UsageError: height or width is not a multiple of 4.
    """
    height, width, channels = image_shape
    if height % _POOLING or width % _POOLING:
        raise UsageError(
            f"--model=conv halves images twice, so height and width must be multiples "
            f"of {_POOLING} ({_next_size(height)} x {_next_size(width)}, say); "
            f"these are {height} x {width}"
        )
    seeds = glorot_uniform(config.seed)
    encoder = keras.Sequential(
        [
            keras.Input(image_shape),
            _conv("conv1", _FILTERS, "relu", seeds),
            keras.layers.MaxPooling2D(2, name="pool1"),
            _conv("conv2", _FILTERS, "relu", seeds),
            keras.layers.MaxPooling2D(2, name="pool2"),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((height // _POOLING, width // _POOLING, _FILTERS)),
            _conv("conv3", _FILTERS, "relu", seeds),
            keras.layers.UpSampling2D(2, name="upsample1"),
            _conv("conv4", _FILTERS, "relu", seeds),
            keras.layers.UpSampling2D(2, name="upsample2"),
            _conv("pixels", channels, "linear", seeds),
            keras.layers.Activation("sigmoid", dtype="float32", name="output"),
        ],
        name="decoder",
    )
    return compose(encoder, decoder, image_shape, name="conv")


def _conv(name: str, filters: int, activation: str, seeds: Iterator[Any]) -> Any:
    return keras.layers.Conv2D(
        filters,
        3,
        padding="same",
        activation=activation,
        kernel_initializer=next(seeds),
        name=name,
    )


def _next_size(size: int) -> int:
    """The smallest size, at least `size`, that pooling divides."""
    return -(-size // _POOLING) * _POOLING
