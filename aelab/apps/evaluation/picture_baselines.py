"""Classical denoisers of whole pictures, with the true strength of the noise.

Pictures are float32 [H, W, C] and may have values outside [0, 1]; so may the results.
The libraries that do the work are optional, so they are imported where they are used.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aelab.apps.evaluation.baselines import mean_psnr, total_variation

_TV_BOUNDS = (0.01, 1.0)
_TOLERANCE = 0.1  # relative, of the weight of total variation


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
    return total_variation(noisy[None], math.exp(log_weight))


def bm3d(noisy: np.ndarray, clean: np.ndarray, stddev: float | None) -> np.ndarray:
    """BM3D (Dabov et al. 2007), in color CBM3D, by its authors' package."""
    import bm3d as package

    method: Any = package.bm3d_rgb if noisy.shape[2] == 3 else package.bm3d
    restored: np.ndarray = method(noisy, _sigma(noisy, stddev))
    return np.reshape(restored, noisy.shape)


def _sigma(noisy: np.ndarray, stddev: float | None) -> float:
    """The level of the noise, estimated (Donoho and Johnstone 1994) if not known."""
    from skimage.restoration import estimate_sigma

    if stddev is not None:
        return stddev
    return float(estimate_sigma(noisy, average_sigmas=True, channel_axis=-1))


PICTURE_BASELINES = {
    "non_local_means": PictureBaseline(non_local_means, ("skimage", "pywt")),
    "total_variation": PictureBaseline(best_total_variation, ("skimage", "scipy")),
    "wavelets": PictureBaseline(wavelets, ("skimage", "pywt")),
    "bm3d": PictureBaseline(bm3d, ("bm3d", "skimage", "pywt")),
}
