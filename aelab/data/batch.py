"""The rows of batches, as the pipeline gives them to a replica."""

from typing import NamedTuple

import tensorflow as tf


class Batch(NamedTuple):
    """The rows of a training batch for one replica.

    A dataset leaves out the last ones that are None: tf.data has no such components.

    Attributes:
      corrupted: the model's input, float32 [rows, H, W, C].
      target: what its output is compared with, of the same shape: the clean images, or
        noisy ones with another `supervision`.
      dither: float32 [rows, dither_size] in (-1/2, 1/2), for a model that needs it.
      mask: float32 [rows, H, W, 1], 1 for the pixels that are compared; None for all.
    """

    corrupted: tf.Tensor
    target: tf.Tensor
    dither: tf.Tensor | None = None
    mask: tf.Tensor | None = None


class EvalBatch(NamedTuple):
    """The rows of an evaluation batch for one replica.

    Attributes:
      corrupted: the model's input, float32 [rows, H, W, C].
      clean: the images without noise.
      weights: float32 [rows], 1, or 0 for rows that pad the last batch.
      target: for the loss, if it is not `clean`.
      masked: the input for the loss, if it is not `corrupted`.
      mask: the pixels that the loss counts, as in `Batch`.
    """

    corrupted: tf.Tensor
    clean: tf.Tensor
    weights: tf.Tensor
    target: tf.Tensor | None = None
    masked: tf.Tensor | None = None
    mask: tf.Tensor | None = None
