"""Shared building blocks of the models, and `Autoencoder`, the type they build."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.errors import UsageError
from aelab.models.fused_layers import (
    Conv2DMaxPool,
    SameConv2D,
    SameConv2DTranspose,
    SharedAdd,
    UpSampleConv2D,
)

# Height, width and channels. Height and width are None in a network for all sizes.
ImageShape = tuple[int | None, int | None, int]

# `(encoded, dither) -> code`, see `Autoencoder`.
Bottleneck = Callable[[Any, tf.Tensor | None], Any]


# Keras numbers unnamed layers over the whole process: `conv2d_7/kernel`.
_COUNT = re.compile(r"_\d+(?=[_/]|$)")


def unique_names(names: Iterable[str]) -> list[str]:
    """Keras' names without their counts, which depend on the process.

    Equal names are numbered in the order of the layers. So `block_1` and `block_2`
    become `block` and `block#2`.
    """
    seen: Counter[str] = Counter()
    unique = []
    for name in (_COUNT.sub("", name) for name in names):
        seen[name] += 1
        unique.append(f"{name}#{seen[name]}" if seen[name] > 1 else name)
    return unique


class Autoencoder(NamedTuple):
    """A network and its parts.

    Attributes:
      model: `decoder(encoder(images))`, a functional `keras.Model` from float32
        [n, H, W, C] to the same. Its last operation should be a sigmoid in float32, so
        that the cross-entropy is computed from logits when compiled.
      encoder: images to a code, a tensor [n, ...] or a list of tensors.
      decoder: a code to images.
      bottleneck: what happens between encoder and decoder: `(encoded, dither)` to the
        code that the decoder takes. In training `dither` is uniform noise in
        (-1/2, 1/2), float32 [n, dither_size]; `sqrt(2) * erfinv(2 * dither)` is
        normal. Otherwise it is None, and `encoded` may be a Keras symbol: use
        `keras.ops`. `encoded` may have 16 bits: cast it. None: nothing happens.
      dither_size: how many numbers of dither an example needs; 0 = none.
      prior: a layer from codes to their lengths in bytes, float32 [n]; trained with the
        model. None: the length is not defined.
      size_multiple: a network that takes images of any size needs height and width to
        be multiples of this number. 0: images have the size it was built for.
      is_bounded: False if the output may have values outside [0, 1].
    """

    model: Any
    encoder: Any
    decoder: Any
    bottleneck: Bottleneck | None = None
    dither_size: int = 0
    prior: Any = None
    size_multiple: int = 0
    is_bounded: bool = True

    @property
    def variables(self) -> list[Any]:
        """All variables; the prior's come last."""
        return [*self.model.variables, *(self.prior.variables if self.prior else [])]

    def named_variables(self) -> dict[str, Any]:
        """All variables by names that are the same in every process and build."""
        variables = self.variables
        names = unique_names([variable.path for variable in variables])
        return dict(zip(names, variables, strict=True))

    @property
    def trainable_variables(self) -> list[Any]:
        """The variables to train; the prior's come last."""
        prior = self.prior.trainable_variables if self.prior else []
        return [*self.model.trainable_variables, *prior]


def glorot_uniform(seed: int) -> Iterator[Any]:
    """Initializers for one layer after another, all derived from `seed`.

    Keras' default (Glorot and Bengio 2010). Each layer has its own seed: with a shared
    one, layers of the same shape would start out equal.
    """
    for child in np.random.SeedSequence(seed).generate_state(64):
        yield keras.initializers.GlorotUniform(seed=int(child >> 1))


def check_sizes(image_shape: ImageShape, name: str, multiple: int) -> None:
    """Raises UsageError unless height and width, where given, are multiples.

    Args:
      image_shape: shape of the images.
      name: name of the network, for the message.
      multiple: the total factor by which the network's poolings divide the size.
    """
    sizes = [size for size in image_shape[:2] if size is not None]
    if any(size % multiple for size in sizes):
        near = " x ".join(str(-(-size // multiple) * multiple) for size in sizes)
        raise UsageError(
            f"--model={name} needs images whose height and width are multiples of "
            f"{multiple}, for example {near}; these are {' x '.join(map(str, sizes))}"
        )


class Layers:
    """Makes convolutions with 'same' padding, each with its own seed.

    They are Keras' layers if `config.stock_layers` is set. Otherwise a convolution and
    its neighbor are one layer of `fused_layers`, with the same variables.
    """

    def __init__(self, config: Config):
        self._is_stock = config.stock_layers
        self._seeds = glorot_uniform(config.seed)

    def conv(
        self,
        name: str,
        filters: int,
        activation: str = "linear",
        size: int = 3,
        strides: int = 1,
        is_zero: bool = False,
    ) -> Any:
        """A convolution of stride s: [n, H, W, C] to [n, H / s, W / s, filters].

        With `is_zero` its kernel begins as zeros.
        """
        arguments = {"strides": strides, **self._arguments(name, activation, is_zero)}
        if self._is_stock:
            return keras.layers.Conv2D(filters, size, padding="same", **arguments)
        return SameConv2D(filters, size, **arguments)

    def conv_pool(self, name: str, pool_name: str, filters: int) -> list[Any]:
        """3x3 convolution, relu, max-pooling by 2: to [n, H / 2, W / 2, filters]."""
        if self._is_stock:
            pool = keras.layers.MaxPooling2D(2, name=pool_name)
            return [self.conv(name, filters, "relu"), pool]
        return [Conv2DMaxPool(filters, 3, **self._arguments(name, "relu"))]

    def up_conv(
        self, up_name: str, name: str, filters: int, activation: str = "linear"
    ) -> list[Any]:
        """Nearest upsampling by 2, 3x3 convolution: to [n, 2H, 2W, filters]."""
        if self._is_stock:
            up = keras.layers.UpSampling2D(2, name=up_name)
            return [up, self.conv(name, filters, activation)]
        return [UpSampleConv2D(filters, **self._arguments(name, activation))]

    def conv_transpose(
        self, name: str, filters: int, size: int, is_zero: bool = False
    ) -> Any:
        """A transposed convolution of stride 2: [n, H, W, C] to [n, 2H, 2W, filters].

        `size` is twice an odd number. With `is_zero` its kernel begins as zeros.
        """
        arguments = self._arguments(name, "linear", is_zero)
        if self._is_stock:
            return keras.layers.Conv2DTranspose(
                filters, size, strides=2, padding="same", **arguments
            )
        return SameConv2DTranspose(filters, size, **arguments)

    def add(self, name: str) -> Any:
        """The sum of a list of tensors."""
        return (keras.layers.Add if self._is_stock else SharedAdd)(name=name)

    def _arguments(
        self, name: str, activation: str, is_zero: bool = False
    ) -> dict[str, Any]:
        initializer = next(self._seeds)
        return {
            "activation": activation,
            "kernel_initializer": "zeros" if is_zero else initializer,
            "name": name,
        }


def compose(
    encoder: Any, decoder: Any, image_shape: ImageShape, name: str, **parts: Any
) -> Autoencoder:
    """The autoencoder of an encoder and a decoder.

    Args:
      encoder: a Keras model from images to a code.
      decoder: a Keras model from a code to images.
      image_shape: (height, width, channels).
      name: of the Keras model.
      **parts: further attributes of `Autoencoder`.
    """
    images = keras.Input(image_shape, name="images")
    bottleneck = parts.get("bottleneck")
    code = encoder(images)
    code = bottleneck(code, None) if bottleneck else code
    model = keras.Model(images, decoder(code), name=name)
    return Autoencoder(model, encoder, decoder, **parts)
