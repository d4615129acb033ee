"""Compares a model with its baselines at several levels of noise."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from aelab.apps.evaluation import measure
from aelab.apps.evaluation.baselines import Baseline, Task, num_search_images
from aelab.apps.evaluation.result import Level, Means
from aelab.config import Config
from aelab.data.corruptions import describe
from aelab.data.sources import Source

# Limits in pixel values. They bound the memory of the baselines, to 85,598 images of
# 28 x 28, and the time of total variation at further levels, to 2,674 images.
_EVAL_VALUES = _TRAIN_VALUES = 2**26
_SWEEP_VALUES = 2**21


class Comparison(NamedTuple):
    """A model, its baselines by name, and the images that they share."""

    model_step: measure.EvaluationStep
    evaluation: Source  # only its first images are used if there are many
    baselines: Mapping[str, Baseline]
    training: np.ndarray | None  # by `read_training`; None if there are no baselines


def read_training(source: Source, config: Config) -> np.ndarray:
    """The training images for baselines: float32 [m, H, W, C] in [0, 1], clean."""
    return measure.training_examples(source, config, _within(source, _TRAIN_VALUES))


def sweep_configs(config: Config, noise_stddevs: Sequence[float]) -> list[Config]:
    """`config` at each level of noise; empty without Gaussian noise."""
    is_noisy = config.noise_stddev or config.noise_stddev_max
    if "gaussian" not in config.corruptions() or not is_noisy:
        return []
    return [
        dataclasses.replace(config, noise_stddev=level, noise_stddev_max=0.0)
        for level in noise_stddevs
    ]


def compare_levels(
    comparison: Comparison, config: Config, noise_stddevs: Sequence[float]
) -> tuple[Level, list[Level]]:
    """Compares as trained and in the sweep by `sweep_configs`; shows progress."""
    sweep = sweep_configs(config, noise_stddevs)
    few = comparison._replace(evaluation=_first(comparison.evaluation, _SWEEP_VALUES))
    is_all = len(few.evaluation) == len(_first(comparison.evaluation, _EVAL_VALUES))
    configs = [level for level in dict.fromkeys(sweep) if level != config or not is_all]
    total = (1 + len(configs)) * (1 + len(comparison.baselines))
    with tqdm(total=total, disable=None, dynamic_ncols=True, leave=False) as bar:
        trained = compare_level(comparison, config, bar)
        levels = {config: trained}
        levels |= {level: compare_level(few, level, bar) for level in configs}
    return trained, [levels[level] for level in sweep]


def compare_level(comparison: Comparison, config: Config, bar: tqdm) -> Level:
    """Evaluates the model and the baselines on images corrupted by `config`.

    The evaluation noise is frozen: each level has the same draw, scaled. `bar` advances
    by one for the model and for each baseline.
    """
    bar.set_description(f"{describe(config)}: model")
    source = _first(comparison.evaluation, _EVAL_VALUES)
    measured = measure.measure(comparison.model_step, config, source)
    bar.update()
    baselines, counts = {}, (0, 0)
    if (clean := comparison.training) is not None:
        corrupted = measure.corrupted_examples(clean, config)
        task = Task(measured.images.clean, measured.images.corrupted, clean, corrupted)
        counts = num_search_images(task), len(clean)
        for name, baseline in comparison.baselines.items():
            bar.set_description(f"{describe(config)}: {name}")
            restored = baseline.restore(task)
            values = measure.output_values(task.clean, restored.images)
            baselines[name] = _summary(values) | restored.setting
            bar.update()
    return Level(
        describe(config),
        None if config.noise_stddev_max else config.noise_stddev,
        len(source),
        _summary(measured.input),
        _summary(measured.output),
        baselines,
        *counts,
    )


def _first(source: Source, values: int) -> Source:
    """The images that fit into `values` pixel values."""
    return source.take(_within(source, values))


def _within(source: Source, values: int) -> int:
    """Number of images that fit into `values` pixel values; two if there are two."""
    return min(len(source), max(2, values // math.prod(source.image_shape)))


def _summary(values: measure.Values) -> Means:
    return measure.means(values) | measure.spread(values)
