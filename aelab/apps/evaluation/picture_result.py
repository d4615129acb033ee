"""The result of an evaluation on whole pictures."""

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class PictureLevel:
    """Means over the pictures of a folder at one level of noise; PSNR in dB.

    `stddev`, `clip` and `correlation` (the run's `noise_correlation`) are None for
    pairs, whose noise is in the files. `each` has `name`, `psnr` and `ssim` of each
    picture. A baseline has `psnr` and `ssim`.
    """

    stddev: float | None
    clip: bool | None
    correlation: float | None
    psnr: float
    ssim: float
    input_psnr: float
    input_ssim: float
    each: list[dict[str, str | float]]
    baselines: dict[str, dict[str, float]]


@dataclass(frozen=True)
class PictureEvaluation:
    """The evaluation of a checkpoint, `best` or `latest`, on a folder of pictures."""

    folder: str  # its name
    checkpoint: str
    step: int
    pictures: int
    ensemble: bool
    precision: str
    levels: list[PictureLevel]
    missing: list[str]  # libraries of baselines that are not installed

    def to_json(self) -> str:
        """The content of `evaluation-FOLDER.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"
