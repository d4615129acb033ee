"""A model over all evaluation images: figures an image, and the worst of them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aelab.config import Config
from aelab.data.pipeline import (
    corrupt_training,
    make_eval_dataset,
    make_train_dataset,
    num_eval_batches,
)
from aelab.data.sources import Source
from aelab.training.step import evaluate_output, image_metrics

Values = dict[str, np.ndarray]

_WORST_SHARE = 100  # one in so many
# `(corrupted, clean) -> output, figures of the input, figures of the output`.
EvaluationStep = Callable[[Any, Any], tuple[Any, dict[str, Any], dict[str, Any]]]


class Images(NamedTuple):
    """Evaluation images and what a model made of them.

    Attributes:
      position: int64 [n], their numbers in the set.
      psnr: float32 [n], of the output, in dB.
      clean, corrupted, output: float32 [n, H, W, C] in [0, 1].
    """

    position: np.ndarray
    psnr: np.ndarray
    clean: np.ndarray
    corrupted: np.ndarray
    output: np.ndarray

    def worst(self, count: int) -> "Images":
        """The `count` images of lowest PSNR, the lowest first."""
        order = np.argsort(self.psnr, kind="stable")[:count]
        return Images(*(part[order] for part in self))


class Measured(NamedTuple):
    """Images with figures of input and output, float32 [n] by name."""

    images: Images
    input: Values
    output: Values


def build_evaluation_step(model: Any, config: Config) -> EvaluationStep:
    """Compiles a model together with the figures of its input and output."""

    def judge(corrupted: Any, clean: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        output, of_output = evaluate_output(model, config, corrupted, clean)
        return output, image_metrics(clean, corrupted), of_output

    compiled: EvaluationStep = tf.function(judge, autograph=False)
    return compiled


def measure_batches(
    judge: EvaluationStep, config: Config, source: Source
) -> Iterator[Measured]:
    """Judges all images of `source`, a batch at a time, in order."""
    first = 0
    dataset = make_eval_dataset(source, config)
    for corrupted, clean, weights in itertools.islice(
        dataset, num_eval_batches(source, config)
    ):
        rows = int(np.count_nonzero(weights))
        output, of_input, of_output = judge(corrupted, clean)
        values = [
            {name: value.numpy()[:rows] for name, value in figures.items()}
            for figures in (of_input, of_output)
        ]
        pictures = [part.numpy()[:rows] for part in (clean, corrupted, output)]
        position = np.arange(first, first + rows)
        yield Measured(Images(position, values[1]["psnr"], *pictures), *values)
        first += rows


def measure(
    judge: EvaluationStep, config: Config, source: Source, keep_worst: int = 0
) -> Measured:
    """Judges all images of `source`.

    Args:
      judge: see `build_evaluation_step`.
      config: how they are corrupted.
      source: the images.
      keep_worst: keep only so many images, those of lowest PSNR; 0 = all. The figures
        are of all images in any case.
    """
    kept: list[Images] = []
    inputs, outputs = [], []
    for images, of_input, of_output in measure_batches(judge, config, source):
        kept.append(images)
        if keep_worst:
            kept = [_joined(kept).worst(keep_worst)]
        inputs.append(of_input)
        outputs.append(of_output)
    return Measured(_joined(kept), _joined_values(inputs), _joined_values(outputs))


def _joined(parts: Sequence[Images]) -> Images:
    return Images(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _joined_values(parts: Sequence[Values]) -> Values:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def output_values(clean: np.ndarray, output: np.ndarray) -> Values:
    """The evaluation figures of any output, float32 [n] by name.

    Args:
      clean: float32 [n, H, W, C] in [0, 1].
      output: the same shape.
    """
    values = image_metrics(tf.constant(clean), tf.constant(output))
    return {name: value.numpy() for name, value in values.items()}


def training_examples(source: Source, config: Config, count: int) -> np.ndarray:
    """The first `count` examples of training, no more than the images there are.

    Returns:
      float32 [count, H, W, C] in [0, 1], clean.
    """
    dataset = make_train_dataset(source, config, first_step=0)
    batches = itertools.islice(dataset, -(-count // config.batch_size))
    return np.concatenate([clean.numpy() for _, clean in batches])[:count]


def corrupted_examples(clean: np.ndarray, config: Config) -> np.ndarray:
    """What `training_examples` gave, corrupted as `config` says.

    Returns:
      float32 [count, H, W, C] in [0, 1].
    """
    parts = []
    for first in range(0, len(clean), config.batch_size):
        batch = tf.constant(clean[first : first + config.batch_size])
        first_example = tf.constant(first, tf.int64)
        parts.append(corrupt_training(batch, first_example, config).numpy())
    return np.concatenate(parts)


def means(values: Values) -> dict[str, float]:
    """The mean over images of each figure."""
    return {name: float(value.mean(dtype=np.float64)) for name, value in values.items()}


def spread(values: Values) -> dict[str, float]:
    """How the PSNR is spread over images, in dB.

    Returns:
      `psnr_median`, and `psnr_worst_percent`: the mean of the lowest hundredth, at
      least of one image.
    """
    psnr = np.sort(values["psnr"])
    worst = psnr[: -(-len(psnr) // _WORST_SHARE)]
    return {
        "psnr_median": float(np.median(psnr)),
        "psnr_worst_percent": float(worst.mean(dtype=np.float64)),
    }
