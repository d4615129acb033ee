"""Baselines: classical restoration methods, each with its strength tuned.

Images are float32 [n, H, W, C] in [0, 1]. The libraries that do the work are optional,
so they are imported where they are used; `BASELINES` names the library of each.
"""

import importlib.util
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from aelab.metric_info import MIN_MSE
from aelab.system.optional import require

LINEAR_COMPONENTS = (2, 8, 32, 128, 512, 1024)

_TOLERANCE = 0.05  # relative, of a strength; the PSNR is flat around the best one
_SEARCH_VALUES = 2**16  # 83 images of 28 x 28
_MAX_EXACT = 1024  # pixel values of an image
_LARGE_COMPONENTS = 128  # of larger images
_MIN_VARIANCE = 1e-10  # of a component, relative to the first
_PIECE = 4096  # images


class Task(NamedTuple):
    """Images to restore, and at least two, corrupted in the same way, to learn from."""

    clean: np.ndarray
    corrupted: np.ndarray
    train_clean: np.ndarray
    train_corrupted: np.ndarray


class Restoration(NamedTuple):
    """Restored images, and the chosen setting, for example {"sigma": 1.3}."""

    images: np.ndarray
    setting: dict[str, float]


def mean_psnr(clean: np.ndarray, output: np.ndarray, clamped: bool = True) -> float:
    """Mean over images of -10 log10(mse), in dB; at most 100.

    With `clamped`, values of `output` outside [0, 1] count as 0 or 1. In NumPy and
    float64, unlike `aelab.metrics.psnr`, so that the chosen strength does not depend on
    TensorFlow's device.
    """
    output = np.clip(output, 0, 1) if clamped else output
    error = np.square(output - clean, dtype=np.float64)
    return float(-10 * np.log10(np.maximum(error.mean((1, 2, 3)), MIN_MSE)).mean())


def blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of each channel; `sigma` is in pixels; edge pixels are repeated."""
    from skimage.filters import gaussian

    return np.asarray(gaussian(images, (0, sigma, sigma, 0), mode="nearest"))


def total_variation(images: np.ndarray, weight: float, eps: float = 2e-4) -> np.ndarray:
    """Total-variation denoising (Rudin et al. 1992) of each channel.

    By at most 200 iterations of Chambolle's algorithm (2004). A greater `weight` gives
    a smoother image. `eps`, as in scikit-image, is when to stop; 0 is never. On images
    of 28 x 28 pixels, 0 changes the PSNR at the best weight by at most 0.02 dB. On
    large pictures, the default stops so early that the PSNR jumps between adjacent
    weights.
    """
    from skimage.restoration import denoise_tv_chambolle

    options = {"eps": eps, "max_num_iter": 200, "channel_axis": -1}
    return np.stack([denoise_tv_chambolle(i, weight, **options) for i in images])


def num_search_images(task: Task) -> int:
    """Number of images to choose a strength on: the first 65,536 pixel values."""
    size = math.prod(task.clean.shape[1:])
    return min(len(task.clean), max(1, _SEARCH_VALUES // size))


def _tuned(
    restore: Callable[[np.ndarray, float], np.ndarray],
    name: str,
    bounds: tuple[float, float],
    task: Task,
) -> Restoration:
    """The result of `restore` at the strength, called `name`, of highest mean PSNR.

    It is found to within 5 % and rounded to three digits. It is tuned on the first
    evaluated images themselves, which favors the baseline.
    """
    from scipy.optimize import minimize_scalar

    count = num_search_images(task)
    clean, corrupted = task.clean[:count], task.corrupted[:count]
    # Brent's method over the logarithm of the strength.
    best = minimize_scalar(
        lambda log: -mean_psnr(clean, restore(corrupted, math.exp(log))),
        bounds=[math.log(bound) for bound in bounds],
        method="bounded",
        options={"xatol": _TOLERANCE},
    )
    strength = float(f"{math.exp(best.x):.3g}")
    return Restoration(_clamped(restore(task.corrupted, strength)), {name: strength})


class _Sums(NamedTuple):
    """Sums over pairs of vectors x and y: of 1, x, y, x x^T and x y^T."""

    ones: np.ndarray
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray

    def without(self, others: "_Sums") -> "_Sums":
        """The sums over the pairs that are not among `others`."""
        return _Sums(*map(np.subtract, self, others))


def linear_estimator(task: Task) -> Restoration:
    """The best linear map from principal components of a corrupted image.

    The components are fitted to the corrupted training images. The map, with a
    constant, has the least squared error on the clean training images. The number of
    components is one of `LINEAR_COMPONENTS`, whichever restores a held-out fifth of the
    training images best, because more components add noise if images are few. Without a
    fifth it is 2.
    """
    project = _projection(task.train_corrupted)
    train = [project(task.train_corrupted), _flat(task.train_clean)]
    sums = _sums(*train)
    held_out = len(task.train_clean) // 5
    number = min(LINEAR_COMPONENTS)
    if held_out:
        x, y = (rows[:held_out] for rows in train)
        restore, _ = _fit_linear(sums.without(_sums(x, y)))
        errors = {
            count: np.square(np.clip(restore(x, count), 0, 1) - y).mean()
            for count in LINEAR_COMPONENTS
        }
        number = min(errors, key=lambda count: errors[count])
    restore, most = _fit_linear(sums)
    output = restore(project(task.corrupted), number)
    images = _clamped(output.reshape(task.clean.shape))
    return Restoration(images, {"components": min(number, most)})


def _projection(images: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Maps images to vectors: their pixels, or 128 components of large images."""
    rows = _flat(images)
    if rows.shape[1] <= _MAX_EXACT:
        return _flat
    pca = fit_pca(rows.astype(np.float64), _LARGE_COMPONENTS)
    return lambda images: np.asarray(pca.transform(_flat(images)))


def _sums(x: np.ndarray, y: np.ndarray) -> _Sums:
    """The sums in float64 over the rows of `x` [n, d] and `y` [n, e], in pieces."""
    sums: list[np.ndarray] = []
    for first in range(0, len(x), _PIECE):
        piece = slice(first, first + _PIECE)
        a, b = x[piece].astype(np.float64), y[piece].astype(np.float64)
        parts = [np.asarray(len(a)), a.sum(0), b.sum(0), a.T @ a, a.T @ b]
        sums = [*map(np.add, sums, parts)] if sums else parts
    return _Sums(*sums)


def _fit_linear(sums: _Sums) -> tuple[Callable[[np.ndarray, int], np.ndarray], int]:
    """Returns the estimator, `(x [n, d], components) -> y [n, e]`, and the most."""
    mean_x, mean_y = sums.x / sums.ones, sums.y / sums.ones
    variances, axes = np.linalg.eigh(sums.xx / sums.ones - np.outer(mean_x, mean_x))
    cross = axes.T @ (sums.xy / sums.ones - np.outer(mean_x, mean_y))
    used = np.flatnonzero(variances > _MIN_VARIANCE * variances[-1])[::-1]
    axes, weights = axes[:, used], cross[used] / variances[used, np.newaxis]

    def restore(x: np.ndarray, number: int) -> np.ndarray:
        """Maps the first scores; as scores are uncorrelated, their weights stay."""
        return np.asarray(mean_y + (x - mean_x) @ (axes[:, :number] @ weights[:number]))

    return restore, len(used)


def principal_components(task: Task, number: int) -> Restoration:
    """Images reconstructed from `number` principal components of the training images.

    No linear code of `number` values has a lower squared error on those images.
    """
    pca = fit_pca(_flat(task.train_clean).astype(np.float64), number)
    output = pca.inverse_transform(pca.transform(_flat(task.corrupted)))
    images = _clamped(output.reshape(task.clean.shape))
    return Restoration(images, {"components": len(pca.components_)})


def fit_pca(rows: np.ndarray, number: int, max_exact: int = _MAX_EXACT) -> Any:
    """Fits scikit-learn's `PCA` to `rows`, float32 or float64 [m, d], at least two.

    It has the first `number` components, but at most m - 1 and at most d, in the type
    of `rows`. Up to d = `max_exact` the covariance is decomposed; a greater d uses a
    randomized singular value decomposition.

    Raises:
      UsageError: scikit-learn is not installed.
    """
    decomposition = require("sklearn.decomposition", extra="eval")
    solver = "covariance_eigh" if rows.shape[1] <= max_exact else "randomized"
    number = min(number, len(rows) - 1, rows.shape[1])
    pca = decomposition.PCA(number, svd_solver=solver, random_state=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # all rows may be equal
        return pca.fit(rows)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def _clamped(images: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(images, 0.0, 1.0), np.float32)


class Baseline(NamedTuple):
    """A method, the module that it needs, and True if it learns from images."""

    restore: Callable[[Task], Restoration]
    library: str
    learns: bool = False


BASELINES = {  # for denoising
    "blur": Baseline(partial(_tuned, blur, "sigma", (0.2, 8.0)), "skimage"),
    "total_variation": Baseline(
        partial(_tuned, total_variation, "weight", (0.01, 10.0)), "skimage"
    ),
    "linear": Baseline(linear_estimator, "sklearn", learns=True),
}


def is_installed(library: str) -> bool:
    """True if the module `library` can be found."""
    return importlib.util.find_spec(library) is not None
