"""The mathematics of one batch: the forward pass and the loss of each image."""

from typing import Any, NamedTuple

import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import LOSSES, PENALTIES, load
from aelab.data.batch import Batch, EvalBatch
from aelab.metrics import Values, image_metrics, masked_mse
from aelab.models import Autoencoder


class Forward(NamedTuple):
    """The result of a forward pass over n images.

    Attributes:
      encoded: what the encoder returns: a tensor [n, ...] or a list of tensors.
      code: what the decoder takes: `encoded` after the model's bottleneck.
      output: float32 [n, H, W, C], in [0, 1] if the model is bounded.
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
    """Encodes and decodes `images`, float32 [n, H, W, C].

    `dither`, float32 [n, dither_size], is given in training to models that need it.
    The pass changes no variable and adds no loss: `build_model` refuses layers that do.
    """
    encoded, code = encode(autoencoder, images, training, dither)
    output = autoencoder.decoder(code, training=training)
    code_bytes = autoencoder.prior(code) if autoencoder.prior else None
    return Forward(encoded, code, output, code_bytes)


def forward_any_size(autoencoder: Autoencoder, images: tf.Tensor) -> Forward:
    """The forward pass of an evaluation, for images of any size that the model takes.

    If the model needs multiples of a size, images are extended at the bottom and at the
    right by their reflection, and the output is cut again.
    """
    multiple = autoencoder.size_multiple or 1
    if all(size and size % multiple == 0 for size in images.shape[1:3]):
        return forward(autoencoder, images, training=False)
    size = tf.shape(images)[1:3]
    missing = -size % multiple
    padding = [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]]
    result = forward(autoencoder, tf.pad(images, padding, "REFLECT"), training=False)
    return result._replace(output=result.output[:, : size[0], : size[1]])


def image_losses(
    config: Config,
    target: tf.Tensor,
    result: Forward,
    mask: tf.Tensor | None = None,
) -> tf.Tensor:
    """The loss of each image, float32 [n]: reconstruction plus weighted penalties.

    With a `mask`, float32 [n, H, W, 1], the reconstruction loss is the squared error of
    the pixels where it is 1, their mean.
    """
    if mask is None:
        loss = load(LOSSES[config.loss], f"--loss={config.loss}")
        losses = loss(target, result.output, config)
    else:
        losses = masked_mse(target, result.output, mask)
    for name, penalty in PENALTIES.items():
        if weight := getattr(config, name):
            losses += weight * load(penalty, f"--{name}")(result, config)
    if result.code_bytes is not None:  # even at weight 0, so the prior has a gradient
        losses += config.rate_weight * result.code_bytes
    return losses


def training_metrics(config: Config, rows: Batch, result: Forward) -> Values:
    """The loss of each image, which training differentiates, and metrics: float32 [n].

    Metrics against a noisy target would mean nothing, and are left out.
    """
    values = {"loss": image_losses(config, rows.target, result, rows.mask)}
    if config.supervision == "clean":
        values |= image_metrics(rows.target, result.output, training=True)
    return values | _code_metrics(result)


def evaluate_batch(
    autoencoder: Autoencoder, config: Config, batch: EvalBatch
) -> tuple[tf.Tensor, Values]:
    """A model's output, float32 [n, H, W, C], and its loss and metrics, float32 [n].

    The metrics compare with the clean images, even if the loss does not. They are left
    out if no clean images are known.
    """
    result = forward_any_size(autoencoder, batch.corrupted)
    seen = result
    if batch.masked is not None:
        seen = forward_any_size(autoencoder, batch.masked)
    target = batch.clean if batch.target is None else batch.target
    values = {"loss": image_losses(config, target, seen, batch.mask)}
    if config.has_clean_images:
        values |= image_metrics(batch.clean, result.output)
    return result.output, values | _code_metrics(result)


def _code_metrics(result: Forward) -> Values:
    return {} if result.code_bytes is None else {"code_bytes": result.code_bytes}


def flat_code(code: Any) -> tf.Tensor:
    """A code, one tensor or several, as float32 [n, numbers]."""
    parts = [tf.cast(part, tf.float32) for part in tf.nest.flatten(code)]
    rows = [tf.reshape(part, [tf.shape(part)[0], -1]) for part in parts]
    return rows[0] if len(rows) == 1 else tf.concat(rows, axis=1)
