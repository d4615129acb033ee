"""What all models are built with."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


def glorot_uniform(seed: int) -> Iterator[Any]:
    """Initializers for one layer after another, all following from `seed`.

    Glorot and Bengio 2010, Keras' default. Each has a seed of its own: with one seed
    for all, layers of one shape would begin equal.
    """
    for child in np.random.SeedSequence(seed).generate_state(64):
        yield keras.initializers.GlorotUniform(seed=int(child >> 1))


def compose(
    encoder: Any, decoder: Any, image_shape: tuple[int, int, int], name: str
) -> Any:
    """The functional model `decoder(encoder(images))`, with both as attributes."""
    images = keras.Input(image_shape, name="images")
    model = keras.Model(images, decoder(encoder(images)), name=name)
    model.encoder, model.decoder = encoder, decoder
    return model
