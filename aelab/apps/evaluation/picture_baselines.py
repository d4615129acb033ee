"""Classical denoisers of whole pictures, with the true strength of the noise.

Pictures are float32 [H, W, C] and may have values outside [0, 1]; so may the results.
The libraries that do the work are optional, so they are imported where they are used.
"""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from aelab.apps.evaluation.baselines import mean_psnr, total_variation

_TV_BOUNDS = (0.001, 1.0)
_TOLERANCE = 0.1  # relative, of the weight of total variation
_BM3D_SIDE = 16  # pixels
_LEAST_SIGMA = 0.01 / 255


class PictureBaseline(NamedTuple):
    """A method and the modules that it needs.

    `restore(noisy, clean, stddev)` may look at `clean` only to choose a strength.
    `stddev` is the standard deviation of the noise, None if it is not known.
    """

    restore: Callable[[np.ndarray, np.ndarray, float | None], np.ndarray]
    libraries: tuple[str, ...]


def non_local_means(
    noisy: np.ndarray, clean: np.ndarray, stddev: float | None
) -> np.ndarray:
    """Non-local means (Buades et al. 2005), as in scikit-image's example.

    Its fast variant, with patches of 5 x 5 in windows of 13 x 13 and h = 0.6 sigma.
    """
    from skimage.restoration import denoise_nl_means

    sigma = _sigma(noisy, stddev)
    image, axis = (noisy[..., 0], None) if noisy.shape[2] == 1 else (noisy, -1)
    restored = denoise_nl_means(
        image, 5, 6, 0.6 * sigma, sigma=sigma, fast_mode=True, channel_axis=axis
    )
    return np.reshape(restored, noisy.shape)


def wavelets(noisy: np.ndarray, clean: np.ndarray, stddev: float | None) -> np.ndarray:
    """Soft thresholds of wavelet coefficients, BayesShrink (Chang et al. 2000).

    Color is denoised as luma and chroma.
    """
    from skimage.restoration import denoise_wavelet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a picture that is too small for a level
        restored: np.ndarray = denoise_wavelet(
            noisy,
            sigma=_sigma(noisy, stddev),
            convert2ycbcr=noisy.shape[2] == 3,
            rescale_sigma=True,
            channel_axis=-1,
        )
    return restored


def best_total_variation(
    noisy: np.ndarray, clean: np.ndarray, stddev: float | None
) -> np.ndarray:
    """Total variation at the weight that is the best one for this picture."""
    from scipy.optimize import minimize_scalar

    best = minimize_scalar(
        lambda log: -mean_psnr(clean[None], _smoothed(noisy, log)),
        bounds=[math.log(bound) for bound in _TV_BOUNDS],
        method="bounded",
        options={"xatol": _TOLERANCE},
    )
    restored: np.ndarray = _smoothed(noisy, best.x)[0]
    return restored


def _smoothed(noisy: np.ndarray, log_weight: float) -> np.ndarray:
    return total_variation(noisy[None], math.exp(log_weight), eps=0)


def bm3d(noisy: np.ndarray, clean: np.ndarray, stddev: float | None) -> np.ndarray:
    """BM3D (Dabov et al. 2007), in color CBM3D, by its authors' package.

    CBM3D divides by 0 where a color component is the same everywhere, as in a gray
    picture that is stored in color. Then each channel is denoised by itself.
    """
    import bm3d as package

    height, width, channels = noisy.shape
    # The package fails for smaller pictures, in part by a segmentation fault.
    missing = [(0, max(0, _BM3D_SIDE - side)) for side in (height, width)]
    padded = np.pad(noisy, [*missing, (0, 0)], mode="symmetric")
    sigma = _sigma(noisy, stddev)
    if channels == 3:
        with np.errstate(divide="ignore", invalid="ignore"):
            restored: np.ndarray = package.bm3d_rgb(padded, sigma)
        if np.isfinite(restored).all():
            return restored[:height, :width]
    planes = [package.bm3d(plane, sigma) for plane in np.moveaxis(padded, 2, 0)]
    return np.stack(planes, axis=-1).reshape(padded.shape)[:height, :width]


def _sigma(noisy: np.ndarray, stddev: float | None) -> float:
    """The level of the noise, estimated (Donoho and Johnstone 1994) if not known.

    An estimate is at least `_LEAST_SIGMA`, because some methods divide by it.
    """
    from skimage.restoration import estimate_sigma

    if stddev is not None:
        return stddev
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sigmas = estimate_sigma(noisy, channel_axis=-1)
    # The estimate of a black channel is NaN.
    return max(float(np.nan_to_num(sigmas).mean()), _LEAST_SIGMA)


PICTURE_BASELINES = {
    "non_local_means": PictureBaseline(non_local_means, ("skimage", "pywt")),
    "total_variation": PictureBaseline(best_total_variation, ("skimage", "scipy")),
    "wavelets": PictureBaseline(wavelets, ("skimage", "pywt")),
    "bm3d": PictureBaseline(bm3d, ("bm3d", "skimage", "pywt")),
}
