"""The U-Net: a better and larger denoiser than `conv`."""

from typing import Any

import keras

from aelab.config import Config
from aelab.models.common import Autoencoder, ImageShape, Layers, check_sizes, compose

_SIZE_MULTIPLE = 4  # halved twice


def build_unet(config: Config, image_shape: ImageShape) -> Autoencoder:
    """Builds a U-Net (Ronneberger et al. 2015) of residual blocks (He et al. 2016).

        images -> conv 4x4, stride 2 -> blocks ------------- skip ------------> + ->
                  -> conv 2x2, stride 2 -> blocks -> code -> blocks -> up ----^
        ... -> blocks -> up to the image -> sigmoid

    There are `config.blocks` blocks in each place. A block is
    x + conv(relu(conv(relu(x)))) with 3x3 kernels and without normalization, as in Lim
    et al. 2017. "up" is `UpSampling2D(2)` and a 3x3 convolution. No
    convolution runs at the full image size, which would cost most.

    The encoder returns everything that the decoder needs, a list of two tensors, with
    C = `filters`: the code [n, H/4, W/4, 2 C] and the skip [n, H/2, W/2, C]. Together
    they hold more numbers than the image: this network denoises and does not compress.

    Raises:
      UsageError: height or width is not a multiple of 4.
    """
    check_sizes(image_shape, "unet", _SIZE_MULTIPLE)
    layers = Layers(config)
    encoder = _build_encoder(layers, image_shape, config)
    decoder = _build_decoder(layers, encoder.output_shape, image_shape[2], config)
    return compose(encoder, decoder, image_shape, "unet", size_multiple=_SIZE_MULTIPLE)


def _build_encoder(layers: Layers, image_shape: ImageShape, config: Config) -> Any:
    images, filters = keras.Input(image_shape), config.filters
    skip = layers.conv("stem", filters, size=4, strides=2)(images)
    skip = _blocks(layers, "fine", skip, config.blocks)
    code = layers.conv("down", 2 * filters, size=2, strides=2)(_relu("down", skip))
    code = _blocks(layers, "coarse", code, config.blocks)
    return keras.Model(images, [code, skip], name="encoder")


def _build_decoder(layers: Layers, shapes: Any, channels: int, config: Config) -> Any:
    code, skip = (keras.Input(shape[1:]) for shape in shapes)
    x = _blocks(layers, "decoded_coarse", code, config.blocks)
    x = _up(layers, "up", x, skip.shape[-1])
    x = layers.add("joined")([x, skip])
    x = _blocks(layers, "decoded_fine", x, config.blocks)
    logits = _up(layers, "pixels", x, channels)
    output = keras.layers.Activation("sigmoid", dtype="float32", name="output")
    return keras.Model([code, skip], output(logits), name="decoder")


def _relu(name: str, x: Any) -> Any:
    """The relu before the layer `name`."""
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def _up(layers: Layers, name: str, x: Any, filters: int) -> Any:
    """Relu, upsampling by 2, convolution: to [n, 2H, 2W, filters]."""
    x = _relu(name, x)
    for layer in layers.up_conv(f"{name}_upsample", name, filters):
        x = layer(x)
    return x


def _blocks(layers: Layers, name: str, x: Any, count: int) -> Any:
    """Several residual blocks, one after the other."""
    for number in range(1, count + 1):
        x = _block(layers, f"{name}{number}", x)
    return x


def _block(layers: Layers, name: str, x: Any) -> Any:
    """A residual block: [n, H, W, C] to the same shape."""
    filters = x.shape[-1]
    y = _relu(f"{name}_conv1", x)
    y = layers.conv(f"{name}_conv1", filters, "relu")(y)
    y = layers.conv(f"{name}_conv2", filters)(y)
    return layers.add(name)([x, y])
