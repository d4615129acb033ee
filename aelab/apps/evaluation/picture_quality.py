"""PSNR and SSIM of a whole picture."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aelab import metrics
from aelab.apps.evaluation.baselines import mean_psnr


class Quality(NamedTuple):
    """Of one picture; PSNR in dB."""

    psnr: float
    ssim: float


def picture_quality(
    clean: np.ndarray, output: np.ndarray, clamped: bool = True
) -> Quality:
    """PSNR in dB, at a peak of 1, and SSIM of a picture, [H, W, C].

    Values of `output` outside [0, 1] count as 0 or 1; in the PSNR only with `clamped`.
    """
    images = clean[np.newaxis], output[np.newaxis]
    ssim = metrics.ssim(*(tf.constant(image, tf.float32) for image in images))
    return Quality(mean_psnr(*images, clamped), float(ssim[0]))
