"""A model beside its floors, at one level of noise after the other."""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from aelab.apps.evaluation.baselines import Baseline, Task, num_search_images
from aelab.apps.evaluation.measure import (
    EvaluationStep,
    Values,
    corrupted_examples,
    means,
    measure,
    output_values,
    spread,
    training_examples,
)
from aelab.config import Config
from aelab.data.corruptions import describe
from aelab.data.sources import Source

# What floors work on at most, in pixel values, which bounds their time and memory:
# 2,674 images of 28 x 28, and 21,399 to learn from.
_EVAL_VALUES = 2**21
_TRAIN_VALUES = 2**24


class Comparison(NamedTuple):
    """A model, its floors, and the images that all of them get.

    Attributes:
      judge: the model with its figures, see `build_evaluation_step`.
      floors: by name.
      evaluation: what to evaluate on; the first images are taken if there are many.
      training: what floors may learn from, see `read_training`; None if there are none.
    """

    judge: EvaluationStep
    floors: Mapping[str, Baseline]
    evaluation: Source
    training: np.ndarray | None


def read_training(source: Source, config: Config) -> np.ndarray:
    """As many training examples as floors can take, float32 [m, H, W, C], clean."""
    return training_examples(source, config, _within(source, _TRAIN_VALUES))


def sweep_configs(config: Config, noise_stddevs: Sequence[float]) -> list[Config]:
    """`config` at each level of Gaussian noise; none if it has no such noise."""
    is_noisy = config.noise_stddev or config.noise_stddev_max
    if "gaussian" not in config.corruptions() or not is_noisy:
        return []
    return [
        dataclasses.replace(config, noise_stddev=level, noise_stddev_max=0.0)
        for level in noise_stddevs
    ]


def compare_levels(
    contest: Comparison, config: Config, noise_stddevs: Sequence[float]
) -> dict[str, Any]:
    """Judges model and floors as trained and in a sweep; shows progress on a terminal.

    Returns:
      `trained`: what `compare_level` gives, and `sweep`: a list of the same, one for
      each of `noise_stddevs`, empty if the run has no Gaussian noise.
    """
    sweep = sweep_configs(config, noise_stddevs)
    configs = list(dict.fromkeys([config, *sweep]))
    judged = {}
    with tqdm(
        total=len(configs) * (1 + len(contest.floors)),
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
        leave=False,
    ) as bar:
        for level in configs:
            judged[level] = compare_level(contest, level, bar)
    return {"trained": judged[config], "sweep": [judged[level] for level in sweep]}


def compare_level(contest: Comparison, config: Config, bar: Any) -> dict[str, Any]:
    """Judges model and floors on images corrupted as `config` says.

    The evaluation noise is frozen: at each level it is the same draw, scaled.

    Args:
      contest: who and on what.
      config: how images are corrupted.
      bar: a tqdm bar, moved by one for the model and for each floor.

    Returns:
      `corruption` in words, `noise_stddev` (None where each image has a level of its
      own), figures of `input`, `output` and each of the `floors`, with what was chosen
      for it (`sigma`, `weight`, `components`), and how many `images` these are of; if
      there are floors, also on how many of them sigma and weight were chosen
      (`search_images`), and from how many others was learned (`training_images`).
    """
    bar.set_description(f"{describe(config)}: model")
    source = contest.evaluation
    source = source.take(_within(source, _EVAL_VALUES))
    measured = measure(contest.judge, config, source)
    bar.update()
    level: dict[str, Any] = {
        "corruption": describe(config),
        "noise_stddev": None if config.noise_stddev_max else config.noise_stddev,
        "images": len(source),
        "input": _figures(measured.input),
        "output": _figures(measured.output),
        "floors": {},
    }
    if contest.training is None:
        return level
    clean = contest.training
    corrupted = corrupted_examples(clean, config)
    task = Task(measured.images.clean, measured.images.corrupted, clean, corrupted)
    level |= {"search_images": num_search_images(task), "training_images": len(clean)}
    for name, floor in contest.floors.items():
        bar.set_description(f"{describe(config)}: {name}")
        restored = floor.restore(task)
        values = output_values(task.clean, restored.images)
        level["floors"][name] = _figures(values) | restored.setting
        bar.update()
    return level


def _within(source: Source, values: int) -> int:
    """How many images have no more pixel values than that; two if there are two."""
    return min(len(source), max(2, values // math.prod(source.image_shape)))


def _figures(values: Values) -> dict[str, float]:
    return means(values) | spread(values)
