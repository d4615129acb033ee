"""The networks, one file each.

    autoencoder = build_model(Config(model="dense"), image_shape=(28, 28, 1))
    code = autoencoder.encoder(images)

The names are in `aelab.config.registry.MODELS`.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from aelab.config import Config
from aelab.config.fields import is_function
from aelab.config.registry import MODELS, load
from aelab.errors import UsageError
from aelab.models.common import Autoencoder, ImageShape, unique_names

__all__ = ["Autoencoder", "ImageShape", "build_model", "unique_names"]


def build_model(config: Config, image_shape: ImageShape) -> Autoencoder:
    """Builds the network that `config` names, with weights derived from its seed.

    With mixed precision (Micikevicius et al. 2018) the layers compute in 16 bits;
    weights and the output are float32.

    Args:
      config: the model and its parameters.
      image_shape: (height, width, channels) of the images. Height and width may be None
        if the model's `size_multiple` is not 0.

    Raises:
      UsageError: the model can't take images of this shape; or `--model` names a
        function that does not exist or returns something that aelab can't train.
    """
    name = config.model
    if is_function(name) and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    build = load(name if is_function(name) else MODELS[name], f"--model={name}")
    if is_function(name):  # its initializers may have no seed of their own
        keras.utils.set_random_seed(config.seed)
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        autoencoder = build(config, image_shape)
    finally:
        keras.config.set_dtype_policy(previous)
    if not isinstance(autoencoder, Autoencoder):
        raise UsageError(
            f"--model={name} must return an aelab.models.Autoencoder, not a "
            f"{type(autoencoder).__name__}"
        )
    _check_layers(autoencoder, f"--model={name}")
    return autoencoder


def _check_layers(autoencoder: Autoencoder, flag: str) -> None:
    """Raises UsageError for layers that the training loop can't do justice to.

    State that a forward pass changes would depend on the number of replicas and blocks,
    and a skipped step would change it. Losses that layers add would be left out.
    """
    prior = [autoencoder.prior] if autoencoder.prior else []
    for layer in _layers([*autoencoder.model.layers, *prior]):
        has_seed = any("seed" in v.path for v in layer.non_trainable_variables)
        if has_seed or (layer.trainable and layer.non_trainable_variables):
            raise UsageError(
                f"{flag}: the layer {layer.name} ({type(layer).__name__}) has state "
                "that training changes outside of the gradient: for normalization use "
                "GroupNormalization or LayerNormalization, for noise the autoencoder's "
                "bottleneck with dither"
            )
        if layer.losses or getattr(layer, "activity_regularizer", None):
            raise UsageError(
                f"{flag}: the layer {layer.name} has a regularizer, which training "
                "would leave out: use --l1_activity, --optimizer_args=weight_decay=... "
                "or a penalty of your own"
            )


def _layers(layers: Iterable[Any]) -> Iterator[Any]:
    """The innermost of these layers."""
    for layer in layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer.layers)
        else:
            yield layer
