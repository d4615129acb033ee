"""Metrics of a model on each evaluation image, and the worst of the images."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aelab.apps.evaluation.result import Means
from aelab.config import Config
from aelab.data import pipeline
from aelab.data.batch import EvalBatch
from aelab.data.sources import Source
from aelab.metrics import image_metrics
from aelab.models import Autoencoder
from aelab.training.objective import evaluate_batch

Values = dict[str, np.ndarray]

_WORST_SHARE = 100  # the worst 1 / 100 of the images
_Metrics = dict[str, tf.Tensor]
# `(batch) -> output, metrics of the input, metrics of the output`.
EvaluationStep = Callable[[EvalBatch], tuple[tf.Tensor, _Metrics, _Metrics]]


class Images(NamedTuple):
    """Evaluation images and the model's outputs: float32 [n, H, W, C].

    `clean` is in [0, 1]. `corrupted` is too if the noise is clipped, and `output` if
    the model is bounded.
    """

    position: np.ndarray  # int64 [n], in the set
    psnr: np.ndarray  # float32 [n], of the output, in dB
    clean: np.ndarray
    corrupted: np.ndarray
    output: np.ndarray

    def worst(self, count: int) -> "Images":
        """The `count` images with the lowest PSNR, the lowest first."""
        order = np.argsort(self.psnr, kind="stable")[:count]
        return Images(*(part[order] for part in self))


class Measurements(NamedTuple):
    """Images, and the metrics of input and output: float32 [n] by name."""

    images: Images
    input: Values
    output: Values


def build_evaluation_step(model: Autoencoder, config: Config) -> EvaluationStep:
    """Compiles a model together with the metrics of its input and output."""

    def step(batch: EvalBatch) -> Any:
        """Metrics are float32 [n]."""
        output, output_metrics = evaluate_batch(model, config, batch)
        return output, image_metrics(batch.clean, batch.corrupted), output_metrics

    compiled: EvaluationStep = tf.function(step, autograph=False)
    return compiled


def measure(
    model_step: EvaluationStep, config: Config, source: Source, keep_worst: int = 0
) -> Measurements:
    """Evaluates all images of `source`, corrupted by `config`.

    Returns the metrics of all images. If `keep_worst` is above 0, it returns only the
    `keep_worst` images with the lowest PSNR.
    """
    images: list[Images] = []
    metrics_of: tuple[list[Values], list[Values]] = ([], [])
    first = 0
    count = pipeline.num_eval_batches(source, config)
    dataset = pipeline.make_eval_dataset(source, config).take(count)
    for parts_of_batch in dataset:
        batch = EvalBatch(*parts_of_batch)
        rows = int(np.count_nonzero(batch.weights))
        output, *metrics = model_step(batch)
        for values, parts in zip(metrics, metrics_of, strict=True):
            parts.append({name: value.numpy()[:rows] for name, value in values.items()})
        shown = (batch.clean, batch.corrupted, output)
        pictures = [part.numpy()[:rows] for part in shown]
        position = np.arange(first, first + rows)
        images.append(Images(position, metrics_of[1][-1]["psnr"], *pictures))
        if keep_worst:
            images = [_concatenate(images).worst(keep_worst)]
        first += rows
    return Measurements(_concatenate(images), *map(_concatenate_values, metrics_of))


def _concatenate(parts: Sequence[Images]) -> Images:
    return Images(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _concatenate_values(parts: Sequence[Values]) -> Values:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def output_values(clean: np.ndarray, output: np.ndarray) -> Values:
    """The evaluation metrics of any output; both are float32 [n, H, W, C] in [0, 1]."""
    values = image_metrics(tf.constant(clean), tf.constant(output))
    return {name: value.numpy() for name, value in values.items()}


def training_examples(source: Source, config: Config, count: int) -> np.ndarray:
    """The first `count` examples of training, at most one per image, without noise.

    float32 [count, H, W, C] in [0, 1].
    """
    clean = dataclasses.replace(config, supervision="clean")
    dataset = pipeline.make_train_dataset(source, clean, first_step=0)
    batches = itertools.islice(dataset, -(-count // config.batch_size))
    return np.concatenate([batch[1].numpy() for batch in batches])[:count]


def corrupted_examples(clean: np.ndarray, config: Config) -> np.ndarray:
    """The result of `training_examples`, corrupted by `config`: the same shape."""
    parts = []
    for first in range(0, len(clean), config.batch_size):
        batch = tf.constant(clean[first : first + config.batch_size])
        first_example = tf.constant(first, tf.int64)
        parts.append(pipeline.corrupt_training(batch, first_example, config).numpy())
    return np.concatenate(parts)


def means(values: Values) -> Means:
    """The mean over images of each metric."""
    return {name: float(value.mean(dtype=np.float64)) for name, value in values.items()}


def spread(values: Values) -> Means:
    """The spread of the PSNR over images, in dB.

    `psnr_worst_percent` is the mean of the lowest hundredth, of at least one image.
    """
    psnr = np.sort(values["psnr"])
    worst = psnr[: -(-len(psnr) // _WORST_SHARE)]
    return {
        "psnr_median": float(np.median(psnr)),
        "psnr_worst_percent": float(worst.mean(dtype=np.float64)),
    }
