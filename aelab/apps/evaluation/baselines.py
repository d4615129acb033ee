"""Floors: what restores images without a network, its one strength chosen well.

NumPy arrays in and out. The libraries that do the work are optional, so they are
imported where they are used; `BASELINES` says which floor needs which.
"""

import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LINEAR_COMPONENTS = (2, 8, 32, 128)

_SIGMAS = (0.2, 8.0)  # pixels
_WEIGHTS = (0.01, 10.0)
_TOLERANCE = 0.05  # relative, of a strength; the PSNR around the best one is flat
_SEARCH_VALUES = 2**16  # 83 images of 28 x 28
_MIN_MSE = 1e-10  # as in aelab.metrics: an exact copy counts as 100 dB
_EXACT_PIXELS = 1024  # up to here the covariance of all pixels is decomposed


class Task(NamedTuple):
    """Images to be restored, and those that may be learned from, at least two.

    Attributes:
      clean: float32 [n, H, W, C] in [0, 1], what should come out.
      corrupted: the same shape and range, what goes in.
      train_clean: float32 [m, H, W, C], clean training images.
      train_corrupted: the same images, corrupted in the same way.
    """

    clean: np.ndarray
    corrupted: np.ndarray
    train_clean: np.ndarray
    train_corrupted: np.ndarray


class Restoration(NamedTuple):
    """What a floor gives.

    Attributes:
      images: float32 [n, H, W, C] in [0, 1].
      setting: what was chosen, by name, as {"sigma": 1.3}.
    """

    images: np.ndarray
    setting: dict[str, float]


def mean_psnr(clean: np.ndarray, output: np.ndarray) -> float:
    """Mean over images of -10 log10(mse), in dB, `output` clamped to [0, 1]."""
    error = np.square(np.clip(output, 0, 1) - clean, dtype=np.float64)
    return float(-10 * np.log10(np.maximum(error.mean((1, 2, 3)), _MIN_MSE)).mean())


def blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `sigma` pixels, channel by channel; edges are continued.

    Args:
      images: float32 [n, H, W, C].
      sigma: standard deviation in pixels, above 0.

    Returns:
      float32 [n, H, W, C].
    """
    from skimage.filters import gaussian

    return np.asarray(gaussian(images, (0, sigma, sigma, 0), mode="nearest"))


def total_variation(images: np.ndarray, weight: float) -> np.ndarray:
    """Total-variation denoising (Rudin et al. 1992), channel by channel.

    By Chambolle's algorithm (2004), as scikit-image has it.

    Args:
      images: float32 [n, H, W, C].
      weight: above 0; the greater, the smoother.

    Returns:
      float32 [n, H, W, C].
    """
    from skimage.restoration import denoise_tv_chambolle

    return np.stack(
        [denoise_tv_chambolle(image, weight, channel_axis=-1) for image in images]
    )


def num_search_images(task: Task) -> int:
    """On how many of the images a strength is chosen: the first, 65,536 values."""
    size = math.prod(task.clean.shape[1:])
    return min(len(task.clean), max(1, _SEARCH_VALUES // size))


def best_strength(
    restore: Callable[[np.ndarray, float], np.ndarray],
    task: Task,
    bounds: tuple[float, float],
) -> float:
    """The strength within `bounds` at which `restore` has the highest mean PSNR.

    Found within 5 % by Brent's method over its logarithm, on the first of the very
    images that are evaluated: a floor may be favoured, a model may not.

    Args:
      restore: `(images, strength) -> images`.
      task: the images.
      bounds: smallest and largest strength.

    Returns:
      The strength, rounded to three digits.
    """
    from scipy.optimize import minimize_scalar

    count = num_search_images(task)
    clean, corrupted = task.clean[:count], task.corrupted[:count]

    def loss(logarithm: float) -> float:
        return -mean_psnr(clean, restore(corrupted, math.exp(logarithm)))

    found = minimize_scalar(
        loss,
        bounds=(math.log(bounds[0]), math.log(bounds[1])),
        method="bounded",
        options={"xatol": _TOLERANCE},
    )
    return float(f"{math.exp(found.x):.3g}")


def best_blur(task: Task) -> Restoration:
    """Gaussian blur with the sigma of highest mean PSNR."""
    sigma = best_strength(blur, task, _SIGMAS)
    return Restoration(_clamped(blur(task.corrupted, sigma)), {"sigma": sigma})


def best_total_variation(task: Task) -> Restoration:
    """Total-variation denoising with the weight of highest mean PSNR."""
    weight = best_strength(total_variation, task, _WEIGHTS)
    images = total_variation(task.corrupted, weight)
    return Restoration(_clamped(images), {"weight": weight})


def linear_estimator(task: Task) -> Restoration:
    """The best linear map from principal components of a corrupted image.

    The components are those of the corrupted training images; the map, with a constant,
    has the least squared error on their clean ones. There are 2, 8, 32 or 128, which
    restores a held-out fifth of the training images best, as more of them add noise if
    images are few; 2 where there is no fifth.
    """
    held = len(task.train_clean) // 5
    number = min(LINEAR_COMPONENTS)
    if held:
        clean = _flat(task.train_clean[:held])
        restore = _fit_linear(task.train_corrupted[held:], task.train_clean[held:])
        errors = {
            k: np.square(np.clip(restore(task.train_corrupted[:held], k), 0, 1) - clean)
            for k in LINEAR_COMPONENTS
        }
        number = min(errors, key=lambda k: float(errors[k].mean()))
    restore = _fit_linear(task.train_corrupted, task.train_clean)
    output = restore(task.corrupted, number).reshape(task.clean.shape)
    most = min(len(task.train_clean) - 1, math.prod(task.clean.shape[1:]))
    return Restoration(_clamped(output), {"components": min(number, most)})


def _fit_linear(
    corrupted: np.ndarray, clean: np.ndarray
) -> Callable[[np.ndarray, int], np.ndarray]:
    """Gives `(images, components) -> float64 [n, H * W * C]`, the estimator."""
    from sklearn.linear_model import LinearRegression

    components = _fitted_components(corrupted, max(LINEAR_COMPONENTS))
    scores = components.transform(_flat(corrupted))
    regression = LinearRegression().fit(scores, _flat(clean))
    weights = regression.coef_.T

    def restore(images: np.ndarray, number: int) -> np.ndarray:
        # Scores are uncorrelated: the best map from fewer is a part of that from all.
        scores = components.transform(_flat(images))[:, :number]
        restored: np.ndarray = regression.intercept_ + scores @ weights[:number]
        return restored

    return restore


def principal_components(task: Task, number: int) -> Restoration:
    """Images from their first `number` principal components.

    No linear code of so many numbers has a lower squared error on the training images,
    whose components they are.
    """
    components = _fitted_components(task.train_clean, number)
    scores = components.transform(_flat(task.corrupted))
    output = components.inverse_transform(scores).reshape(task.clean.shape)
    return Restoration(_clamped(output), {"components": components.n_components_})


def _fitted_components(images: np.ndarray, number: int) -> Any:
    """A fitted `sklearn.decomposition.PCA`; fewer components if there can't be more."""
    from sklearn.decomposition import PCA

    flat = _flat(images)
    solver = "covariance_eigh" if flat.shape[1] <= _EXACT_PIXELS else "randomized"
    number = min(number, len(flat) - 1, flat.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):  # images that are all alike
        return PCA(number, svd_solver=solver, random_state=0).fit(flat)


def fit_pca(images: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of images, float32 [n, H, W, C].

    Returns:
      The mean, float64 [H * W * C], and the axes, float64 [k, H * W * C]. There are
      `components` of them, or as many as the images allow.
    """
    pca = _fitted_components(images, components)
    return pca.mean_, pca.components_


def _flat(images: np.ndarray) -> np.ndarray:
    flat: np.ndarray = images.reshape(len(images), -1).astype(np.float64)
    return flat


def _clamped(images: np.ndarray) -> np.ndarray:
    clamped: np.ndarray = np.clip(images, 0.0, 1.0).astype(np.float32)
    return clamped


class Baseline(NamedTuple):
    """A floor, the library that it needs, and whether it learns from images."""

    restore: Callable[[Task], Restoration]
    library: str
    learns: bool = False


BASELINES = {
    "blur": Baseline(best_blur, "skimage"),
    "total_variation": Baseline(best_total_variation, "skimage"),
    "linear": Baseline(linear_estimator, "sklearn", learns=True),
}


def code_baselines(encoding_dim: int) -> dict[str, Baseline]:
    """The floor of a code of `encoding_dim` numbers for a clean image."""

    def restore(task: Task) -> Restoration:
        return principal_components(task, encoding_dim)

    return {"principal_components": Baseline(restore, "sklearn", learns=True)}


def is_installed(library: str) -> bool:
    """Whether `library` (the name that is imported) can be found."""
    return importlib.util.find_spec(library) is not None
