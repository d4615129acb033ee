"""The mathematics of one batch: the forward pass and the loss of each image."""

from typing import Any, NamedTuple

import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import LOSSES, PENALTIES, load
from aelab.metrics import Values, image_metrics
from aelab.models import Autoencoder


class Forward(NamedTuple):
    """The result of a forward pass over n images.

    Attributes:
      encoded: what the encoder returns: a tensor [n, ...] or a list of tensors.
      code: what the decoder takes: `encoded` after the model's bottleneck.
      output: float32 [n, H, W, C] in [0, 1].
      code_bytes: length of each code, float32 [n]; None for a model without a prior.
    """

    encoded: Any
    code: Any
    output: tf.Tensor
    code_bytes: tf.Tensor | None = None


def encode(
    autoencoder: Autoencoder,
    images: tf.Tensor,
    training: bool,
    dither: tf.Tensor | None = None,
) -> tuple[Any, Any]:
    """What the encoder returns for `images`, and the code after the bottleneck."""
    encoded = code = autoencoder.encoder(images, training=training)
    if autoencoder.bottleneck:
        code = autoencoder.bottleneck(encoded, dither)
    return encoded, code


def forward(
    autoencoder: Autoencoder,
    images: tf.Tensor,
    training: bool,
    dither: tf.Tensor | None = None,
) -> Forward:
    """Encodes and decodes `images`, float32 [n, H, W, C] in [0, 1].

    `dither`, float32 [n, dither_size], is given in training to models that need it.
    The pass changes no variable and adds no loss: `build_model` refuses layers that do.
    """
    encoded, code = encode(autoencoder, images, training, dither)
    output = autoencoder.decoder(code, training=training)
    code_bytes = autoencoder.prior(code) if autoencoder.prior else None
    return Forward(encoded, code, output, code_bytes)


def image_losses(config: Config, clean: tf.Tensor, result: Forward) -> tf.Tensor:
    """The loss of each image, float32 [n]: reconstruction plus weighted penalties."""
    loss = load(LOSSES[config.loss], f"--loss={config.loss}")
    losses = loss(clean, result.output, config)
    for name, penalty in PENALTIES.items():
        if weight := getattr(config, name):
            losses += weight * load(penalty, f"--{name}")(result, config)
    if result.code_bytes is not None:  # even at weight 0, so the prior has a gradient
        losses += config.rate_weight * result.code_bytes
    return losses


def batch_metrics(
    config: Config, clean: tf.Tensor, result: Forward, training: bool = False
) -> Values:
    """The loss of each image, which training differentiates, and its metrics.

    All are float32 [n].
    """
    values = {"loss": image_losses(config, clean, result)}
    values |= image_metrics(clean, result.output, training)
    if result.code_bytes is not None:
        values["code_bytes"] = result.code_bytes
    return values


def flat_code(code: Any) -> tf.Tensor:
    """A code, one tensor or several, as float32 [n, numbers]."""
    parts = [tf.cast(part, tf.float32) for part in tf.nest.flatten(code)]
    rows = [tf.reshape(part, [tf.shape(part)[0], -1]) for part in parts]
    return rows[0] if len(rows) == 1 else tf.concat(rows, axis=1)
