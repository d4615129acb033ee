"""Pictures on which the libraries of the baselines fail by themselves."""

import numpy as np
import pytest
from skimage import data

from aelab.apps.evaluation.baselines import (
    is_installed,
    mean_psnr,
    total_variation,
)
from aelab.apps.evaluation.picture_baselines import (
    PICTURE_BASELINES,
    best_total_variation,
)


@pytest.fixture(params=PICTURE_BASELINES)
def restore(request):
    baseline = PICTURE_BASELINES[request.param]
    for library in baseline.libraries:
        if not is_installed(library):
            pytest.skip(f"needs {library}")
    return baseline.restore


@pytest.mark.parametrize("stddev", [None, 25 / 255], ids=str)
@pytest.mark.parametrize("color", [[0], [0.5], [0, 0, 0], [1, 0.5, 0]], ids=str)
def test_a_picture_of_one_color_stays_as_it_is(restore, color, stddev):
    picture = np.full((20, 24, len(color)), color, np.float32)
    np.testing.assert_allclose(restore(picture, picture, stddev), picture, atol=1e-3)


@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 20, 1), (8, 8, 3), (20, 5, 3)])
def test_small_pictures_are_denoised(restore, shape):
    rows, columns, _ = np.mgrid[: shape[0], : shape[1], : shape[2]]
    clean = np.float32(0.5 + 0.03 * (rows - columns))
    noise = np.random.default_rng(0).normal(0, 25 / 255, shape)
    noisy = np.float32(clean + noise)
    output = restore(noisy, clean, 25 / 255)
    assert output.shape == shape
    assert np.mean((output - clean) ** 2) < np.mean(noise**2)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 20, 1), (20, 2, 3)])
def test_the_narrowest_pictures_are_denoised_without_a_warning(restore, shape):
    noisy = np.random.default_rng(0).normal(0.5, 0.1, shape).astype(np.float32)
    output = restore(noisy, np.full_like(noisy, 0.5), 0.1)
    assert output.shape == shape and np.isfinite(output).all()


def test_gray_pictures_in_color_are_denoised(restore):
    noise = np.random.default_rng(0).normal(0, 25 / 255, (24, 24, 1))
    noisy = np.repeat(np.float32(0.5 + noise), 3, axis=2)
    output = restore(noisy, np.full_like(noisy, 0.5), None)
    assert np.mean((output - 0.5) ** 2) < np.mean(noise**2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["non_local_means", "wavelets", "bm3d"])
def test_a_baseline_uses_the_level_that_it_is_given(name, channels):
    """Half of it removes less noise, and twice as much leaves the picture smoother."""
    baseline = PICTURE_BASELINES[name]
    for library in baseline.libraries:
        if not is_installed(library):
            pytest.skip(f"needs {library}")
    noise = np.random.default_rng(0).normal(0, 0.1, (32, 32, channels))
    noisy, clean = np.float32(0.5 + noise), np.full(noise.shape, 0.5, np.float32)
    left = [np.std(baseline.restore(noisy, clean, s)) for s in (0.05, 0.1, 0.2)]
    assert left[0] > 1.3 * left[1] and left[1] > left[2]


@pytest.mark.parametrize("level", [0.1, 0.3])
def test_total_variation_has_the_best_weight(level):
    """With scikit-image's rule for stopping, the first level fails by 0.5 dB."""
    clean = np.float32(data.moon()[::4, ::4, None] / 255)
    noisy = np.float32(clean + np.random.default_rng(0).normal(0, level, clean.shape))
    found = mean_psnr(clean[None], best_total_variation(noisy, clean, level)[None])
    weights = np.geomspace(0.05, 0.8, 12)
    outputs = [total_variation(noisy[None], weight, eps=0) for weight in weights]
    assert found > max(mean_psnr(clean[None], output) for output in outputs) - 0.01
