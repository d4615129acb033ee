"""The dense autoencoder: compresses an image to a few numbers."""

import keras

from aelab.config import Config
from aelab.errors import UsageError
from aelab.models.common import Autoencoder, ImageShape, compose, glorot_uniform


def build_dense(config: Config, image_shape: ImageShape) -> Autoencoder:
    """Builds flatten -> Dense `encoding_dim` -> Dense -> reshape, sigmoid.

    The textbook's first autoencoder (Chollet, "Building Autoencoders in Keras", 2016):
    784 -> 32 -> 784 at 28x28x1, 25,120 + 25,872 = 50,992 parameters. The code is
    [n, encoding_dim]. Its L1 penalty is a part of the loss (`--l1_activity`).

    Raises:
      UsageError: height or width is None.
    """
    height, width, channels = image_shape
    if height is None or width is None:
        raise UsageError("--model=dense takes images of one size only")
    size = height * width * channels
    seeds = glorot_uniform(config.seed)
    encoder = keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(
                config.encoding_dim,
                activation=config.code_activation,
                kernel_initializer=next(seeds),
                name="code",
            ),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((config.encoding_dim,)),
            keras.layers.Dense(size, kernel_initializer=next(seeds), name="pixels"),
            keras.layers.Reshape(image_shape, name="reshape"),
            keras.layers.Activation("sigmoid", dtype="float32", name="output"),
        ],
        name="decoder",
    )
    return compose(encoder, decoder, image_shape, "dense")
