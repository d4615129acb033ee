"""The result of an evaluation, which `evaluation.json` holds."""

import dataclasses
import json
from dataclasses import dataclass
from typing import TypedDict

Means = dict[str, float]


@dataclass(frozen=True)
class Level:
    """A model and its baselines on images of one level of corruption.

    Attributes:
      corruption: in words.
      noise_stddev: standard deviation of the noise; None if it differs by image.
      images: number of images; the first images of the set.
      input, output: mean of each metric, and the spread of the PSNR.
      baselines: the same for each baseline, with its setting: `sigma`, `weight` or
        `components`.
      search_images: number of images on which sigma and weight were chosen, or 0.
      training_images: number of images that baselines learned from, or 0.
    """

    corruption: str
    noise_stddev: float | None
    images: int
    input: Means
    output: Means
    baselines: dict[str, Means]
    search_images: int = 0
    training_images: int = 0


class Overall(TypedDict):
    """The fields of `Evaluation` that describe all images."""

    examples: int
    metrics: Means
    input: Means
    spread: dict[str, Means]
    worst: list[dict[str, float]]


@dataclass(frozen=True)
class EvaluatedData:
    """The fingerprint of the evaluation images; True if training used the same ones."""

    fingerprint: str
    as_in_training: bool


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a checkpoint, `best` or `latest`, of training step `step`.

    Attributes:
      examples: number of evaluation images, which `data` describes.
      metrics, input: mean of each metric of the output and of the input.
      spread: median and worst percent of the PSNR of `input` and `output`.
      worst: `image`, a position, and `psnr` of the worst images, lowest PSNR first.
      trained, sweep: the comparison with baselines, corrupted as in training, and for
        further levels of noise.
      missing: libraries of baselines that are not installed.
      unlearned: baselines left out because there is only one training image.
      pictures: names of the picture files in the run directory.
    """

    checkpoint: str
    step: int
    examples: int
    data: EvaluatedData
    metrics: Means
    input: Means
    spread: dict[str, Means]
    worst: list[dict[str, float]]
    trained: Level
    sweep: list[Level]
    missing: list[str]
    unlearned: list[str]
    pictures: list[str]

    def to_json(self) -> str:
        """The content of `evaluation.json`."""
        values = dataclasses.asdict(self)
        for level in (values["trained"], *values["sweep"]):
            level["floors"] = level["baselines"]  # the file has both names
        return json.dumps(values, indent=2) + "\n"
