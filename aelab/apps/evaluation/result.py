"""The result of an evaluation, which `evaluation.json` holds."""

import dataclasses
import json
from dataclasses import dataclass

Means = dict[str, float]


@dataclass(frozen=True)
class Level:
    """A model and its baselines on the first images, at one level of corruption."""

    corruption: str  # in words
    noise_stddev: float | None  # None if it differs by image
    images: int
    input: Means  # the mean of each metric, and the spread of the PSNR
    output: Means
    baselines: dict[str, Means]  # the same, and `sigma`, `weight` or `components`
    search_images: int = 0  # number on which sigma and weight were chosen
    training_images: int = 0  # number that baselines learned from


@dataclass(frozen=True)
class EvaluatedData:
    """The fingerprint of the images; True if the run was evaluated on the same ones.

    None: it did not read them, because it has a validation part. False also if they
    come from another folder then.
    """

    fingerprint: str
    as_in_training: bool | None


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a checkpoint, `best` or `latest`, of training step `step`."""

    checkpoint: str
    step: int
    split: str  # the part of the data set, `test` or `validation`
    examples: int  # number of its images, which `data` describes
    data: EvaluatedData
    metrics: Means  # of the output, over all images
    input: Means
    spread: dict[str, Means]  # median and worst percent of the PSNR, input and output
    worst: list[dict[str, float]]  # `image`, a position, and `psnr`, the lowest first
    trained: Level  # corrupted as in training
    sweep: list[Level]  # at further levels of noise
    missing: list[str]  # libraries of baselines that are not installed
    unlearned: list[str]  # baselines ruled out by a single training image
    pictures: list[str]  # names of the picture files in the run directory

    def to_json(self) -> str:
        """The content of `evaluation.json`."""
        values = dataclasses.asdict(self)
        for level in (values["trained"], *values["sweep"]):
            level["floors"] = level["baselines"]  # the file has both names
        return json.dumps(values, indent=2) + "\n"
