"""What all models are built with."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from aelab.config import Config
from aelab.errors import UsageError
from aelab.models.fused_layers import Conv2DMaxPool, SameConv2D, UpSampleConv2D

# Height, width and channels; a convolutional network may leave the first two open.
ImageShape = tuple[int | None, int | None, int]


def glorot_uniform(seed: int) -> Iterator[Any]:
    """Initializers for one layer after another, all following from `seed`.

    Glorot and Bengio 2010, Keras' default. Each has a seed of its own: with one seed
    for all, layers of one shape would begin equal.
    """
    for child in np.random.SeedSequence(seed).generate_state(64):
        yield keras.initializers.GlorotUniform(seed=int(child >> 1))


def check_sizes(image_shape: ImageShape, name: str, multiple: int) -> None:
    """Raises UsageError unless height and width, where given, are multiples.

    Args:
      image_shape: of the images that the network is to take.
      name: the network's, for the message.
      multiple: by what its poolings divide height and width in all.
    """
    sizes = [size for size in image_shape[:2] if size is not None]
    if any(size % multiple for size in sizes):
        near = " x ".join(str(-(-size // multiple) * multiple) for size in sizes)
        raise UsageError(
            f"--model={name} halves images, so height and width must be multiples of "
            f"{multiple} ({near}, say); these are {' x '.join(map(str, sizes))}"
        )


class Layers:
    """Makes convolutions, each with a seed of its own and 'same' padding.

    They are Keras' layers if `config.stock_layers` is "true", else ours, which join a
    convolution and its neighbour in one and have the same variables.
    """

    def __init__(self, config: Config):
        self._is_stock = config.stock_layers == "true"
        self._seeds = glorot_uniform(config.seed)

    def conv(
        self,
        name: str,
        filters: int,
        activation: str = "linear",
        size: int = 3,
        strides: int = 1,
    ) -> Any:
        """A convolution: [n, H, W, C] to [n, H / s, W / s, filters]."""
        arguments = {"strides": strides, **self._arguments(name, activation)}
        if self._is_stock:
            return keras.layers.Conv2D(filters, size, padding="same", **arguments)
        return SameConv2D(filters, size, **arguments)

    def conv_pool(self, name: str, pool_name: str, filters: int) -> list[Any]:
        """A convolution of 3x3, relu, a pooling by 2: to [n, H / 2, W / 2, filters]."""
        if self._is_stock:
            pool = keras.layers.MaxPooling2D(2, name=pool_name)
            return [self.conv(name, filters, "relu"), pool]
        return [Conv2DMaxPool(filters, 3, **self._arguments(name, "relu"))]

    def up_conv(
        self, up_name: str, name: str, filters: int, activation: str = "linear"
    ) -> list[Any]:
        """Nearest upsampling by 2, a convolution of 3x3: to [n, 2H, 2W, filters]."""
        if self._is_stock:
            up = keras.layers.UpSampling2D(2, name=up_name)
            return [up, self.conv(name, filters, activation)]
        return [UpSampleConv2D(filters, **self._arguments(name, activation))]

    def _arguments(self, name: str, activation: str) -> dict[str, Any]:
        initializer = next(self._seeds)
        return {
            "activation": activation,
            "kernel_initializer": initializer,
            "name": name,
        }


def compose(
    encoder: Any,
    decoder: Any,
    image_shape: ImageShape,
    name: str,
    between: Callable[[Any], Any] = lambda code: code,
) -> Any:
    """The model `decoder(between(encoder(images)))`, with both as attributes."""
    images = keras.Input(image_shape, name="images")
    model = keras.Model(images, decoder(between(encoder(images))), name=name)
    model.encoder, model.decoder = encoder, decoder
    return model
