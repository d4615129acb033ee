"""The convolutional autoencoder, a denoiser."""

import keras

from aelab.config import Config
from aelab.models.common import Autoencoder, ImageShape, Layers, check_sizes, compose

_SIZE_MULTIPLE = 4  # two poolings by 2
_FILTERS = 32


def build_conv(config: Config, image_shape: ImageShape) -> Autoencoder:
    """Builds [Conv, MaxPool] x 2, [Conv, UpSample] x 2, Conv to the image, sigmoid.

    The textbook's denoiser (Chollet, "Building Autoencoders in Keras", 2016): 3x3
    kernels, 32 filters, relu, 'same' padding; 28,353 parameters for one channel. The
    code is [n, H/4, W/4, 32].

    Raises:
      UsageError: height or width is not a multiple of 4.
    """
    check_sizes(image_shape, "conv", _SIZE_MULTIPLE)
    layers = Layers(config)
    encoder = keras.Sequential(
        [
            keras.Input(image_shape),
            *layers.conv_pool("conv1", "pool1", _FILTERS),
            *layers.conv_pool("conv2", "pool2", _FILTERS),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input(encoder.output_shape[1:]),
            layers.conv("conv3", _FILTERS, "relu"),
            *layers.up_conv("upsample1", "conv4", _FILTERS, "relu"),
            *layers.up_conv("upsample2", "pixels", image_shape[2]),
            keras.layers.Activation("sigmoid", dtype="float32", name="output"),
        ],
        name="decoder",
    )
    return compose(encoder, decoder, image_shape, "conv", size_multiple=_SIZE_MULTIPLE)
