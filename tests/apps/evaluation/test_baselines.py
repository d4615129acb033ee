import numpy as np
import pytest
from scipy import ndimage
from skimage import restoration

from aelab.apps.evaluation import baselines
from aelab.apps.evaluation.evaluate import select_baselines
from aelab.apps.evaluation.measure import corrupted_examples, training_examples
from aelab.config import Config
from aelab.data.pipeline import make_eval_dataset, num_eval_batches
from aelab.data.sources import load_splits


def smooth_images(count, shape=(16, 12, 1), seed=0):
    """Images of smooth blobs, float32 [count, *shape] in [0, 1]."""
    noise = np.random.default_rng(seed).normal(size=(count, *shape))
    images = ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    return np.clip(0.5 + images / images.std() / 4, 0, 1).astype(np.float32)


def noisy(images, stddev, seed=9):
    noise = np.random.default_rng(seed).normal(scale=stddev, size=images.shape)
    return np.clip(images + noise, 0, 1).astype(np.float32)


def smooth_task(stddev=0.3, count=40, **shape):
    clean, train = smooth_images(count, seed=1, **shape), smooth_images(300, **shape)
    return baselines.Task(clean, noisy(clean, stddev), train, noisy(train, stddev, 8))


def psnr(clean, output):
    """Reference: an image's -10 log10(mse), float64 [n]."""
    error = (np.clip(output, 0, 1).astype(float) - clean) ** 2
    return -10 * np.log10(error.mean((1, 2, 3)))


def flat(images):
    return images.reshape(len(images), -1).astype(float)


def eigenvectors(images, number):
    """Mean and first principal axes, from the covariance matrix."""
    mean = flat(images).mean(0)
    _, vectors = np.linalg.eigh(np.cov(flat(images) - mean, rowvar=False))
    return mean, vectors[:, ::-1][:, :number]


def test_mean_psnr_is_of_clamped_images_and_at_most_100_decibels():
    clean = smooth_images(2)
    assert baselines.mean_psnr(clean, clean) == pytest.approx(100)
    output = clean + np.float32([0.5, -0.1]).reshape(2, 1, 1, 1)
    expected = psnr(clean, output).mean()
    assert baselines.mean_psnr(clean, output) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("sigma", [0.2, 1.3, 6.0])
def test_blur_is_a_convolution_with_a_sampled_gaussian(sigma):
    images = smooth_images(3, (16, 12, 3))
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    expected = images.astype(float)
    for axis in (1, 2):
        margins = [(radius, radius) if a == axis else (0, 0) for a in range(4)]
        padded = np.pad(expected, margins, mode="edge")
        expected = np.apply_along_axis(np.convolve, axis, padded, kernel, "valid")
    output = baselines.blur(images, sigma)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected, atol=2e-6)


def test_total_variation_treats_each_channel_separately():
    images = smooth_images(3, (16, 12, 3))
    outputs = baselines.total_variation(images, 0.2)
    assert outputs.dtype == np.float32
    for image, output in zip(images, outputs, strict=True):
        for channel in range(3):
            expected = restoration.denoise_tv_chambolle(image[..., channel], 0.2)
            np.testing.assert_allclose(output[..., channel], expected, atol=1e-6)


@pytest.mark.parametrize("stddev", [0.1, 0.6])
@pytest.mark.parametrize(
    ("name", "bounds"), [("blur", (0.2, 8.0)), ("total_variation", (0.01, 10.0))]
)
def test_no_other_strength_is_much_better(name, bounds, stddev):
    task = smooth_task(stddev, count=8)
    restored = baselines.BASELINES[name].restore(task)
    restore = getattr(baselines, name)
    (strength,) = restored.setting.values()
    assert bounds[0] < strength < bounds[1]
    best_psnr = psnr(task.clean, restored.images).mean()
    again = np.clip(restore(task.corrupted, strength), 0, 1)
    np.testing.assert_array_equal(restored.images, again)
    others = [
        psnr(task.clean, restore(task.corrupted, other)).mean()
        for other in np.geomspace(*bounds, 13)
    ]
    assert best_psnr > max(others) - 0.01


@pytest.mark.parametrize(
    ("shape", "expected"), [((16, 12, 1), 40), ((128, 128, 1), 4), ((512, 512, 3), 1)]
)
def test_a_strength_is_chosen_on_a_limited_number_of_pixels(shape, expected):
    images = np.zeros((40, *shape), np.float32)
    assert baselines.num_search_images(baselines.Task(*[images] * 4)) == expected


def least_squares(corrupted, clean, images, number):
    """`images` restored by the linear map of least squares: [n, H * W * C]."""
    mean, axes = eigenvectors(corrupted, number)

    def scores(images):
        return np.column_stack([(flat(images) - mean) @ axes, np.ones(len(images))])

    weights, *_ = np.linalg.lstsq(scores(corrupted), flat(clean))
    return np.clip(scores(images) @ weights, 0, 1)


@pytest.mark.parametrize(
    ("channels", "stddev", "components"), [(1, 0.3, 32), (3, 0.3, 32), (1, 0.001, 128)]
)
def test_the_linear_estimator_is_least_squares_on_principal_components(
    channels, stddev, components, monkeypatch
):
    monkeypatch.setattr(baselines, "_PIECE", 7)
    task = smooth_task(stddev, shape=(16 - 4 * channels, 12, channels))
    held_out = len(task.train_clean) // 5
    errors = {}
    for number in baselines.LINEAR_COMPONENTS:
        output = least_squares(
            task.train_corrupted[held_out:],
            task.train_clean[held_out:],
            task.train_corrupted[:held_out],
            number,
        )
        errors[number] = np.square(output - flat(task.train_clean[:held_out])).mean()
    assert min(errors, key=errors.get) == components
    expected = least_squares(
        task.train_corrupted, task.train_clean, task.corrupted, components
    )
    restored = baselines.linear_estimator(task)
    assert restored.setting == {"components": components}
    assert restored.images.dtype == np.float32
    np.testing.assert_allclose(flat(restored.images), expected, atol=1e-5)


def test_a_linear_estimator_from_few_images_uses_few_components():
    """In images of uniform gray, all components but the first few are noise."""
    grays = np.random.default_rng(0).uniform(0, 1, (80, 1, 1, 1))
    clean = np.broadcast_to(grays, (80, 16, 12, 3)).astype(np.float32)
    images = noisy(clean, 0.6)
    task = baselines.Task(clean[40:], images[40:], clean[:40], images[:40])
    every = least_squares(images[:40], clean[:40], task.corrupted, 39)
    restored = baselines.linear_estimator(task)
    assert restored.setting["components"] in (2, 8)
    gain = psnr(task.clean, restored.images) - psnr(
        task.clean, every.reshape(task.clean.shape)
    )
    assert gain.mean() > 0.5


@pytest.mark.parametrize("number", [1, 32])
def test_principal_components_come_from_the_training_images(number):
    clean, train = smooth_images(40, seed=1), smooth_images(300)
    mean, axes = eigenvectors(train, number)
    expected = np.clip((flat(clean) - mean) @ axes @ axes.T + mean, 0, 1)
    restored = baselines.principal_components(
        baselines.Task(clean, clean, train, train), number
    )
    assert restored.setting == {"components": number}
    np.testing.assert_allclose(flat(restored.images), expected, atol=1e-5)


def test_large_images_of_few_components_are_reconstructed():
    """64 x 48 pixels are above the limit of the exact fit; 5 components are enough."""
    generator = np.random.default_rng(0)
    basis = generator.uniform(size=(5, 64 * 48))
    weights = generator.dirichlet(np.ones(5), size=60)
    images = (weights @ basis).reshape(60, 64, 48, 1).astype(np.float32)
    task = baselines.Task(images[:20], images[:20], images[20:], images[20:])
    restored = baselines.principal_components(task, 8)
    np.testing.assert_allclose(restored.images, task.clean, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_exact", [0, 192])
def test_a_fitted_pca_encodes_and_decodes(dtype, max_exact):
    rows = flat(smooth_images(300)).astype(dtype)
    mean, axes = eigenvectors(rows, 8)
    pca = baselines.fit_pca(rows, 8, max_exact)
    assert pca.components_.dtype == pca.mean_.dtype == dtype
    np.testing.assert_allclose(pca.mean_, mean, rtol=1e-5)
    np.testing.assert_allclose(abs(pca.components_ @ axes), np.eye(8), atol=2e-4)
    scores = pca.transform(rows)
    np.testing.assert_allclose(scores, (rows - mean) @ pca.components_.T, atol=1e-4)
    decoded = scores @ pca.components_ + mean
    np.testing.assert_allclose(pca.inverse_transform(scores), decoded, atol=1e-5)


def test_there_are_no_more_components_than_images_or_pixels():
    few = smooth_images(20)
    task = baselines.Task(few, few, few, few)
    assert baselines.linear_estimator(task).setting == {"components": 19}
    small = smooth_images(50, (2, 2, 1))
    task = baselines.Task(small, small, small, small)
    restored = baselines.principal_components(task, 32)
    assert restored.setting == {"components": 4}
    np.testing.assert_allclose(restored.images, small, atol=1e-6)


def test_identical_images_are_restored():
    images = np.full((9, 4, 4, 1), 0.25, np.float32)
    task = baselines.Task(images, images, images, images)
    for restored in (
        baselines.linear_estimator(task),
        baselines.principal_components(task, 3),
    ):
        np.testing.assert_allclose(restored.images, images, atol=1e-6)


def test_two_training_images_are_enough_to_learn_from():
    images = smooth_images(2)
    task = baselines.Task(images, images, images, images)
    of_code = select_baselines(True, (None, 3), images.shape[1:])
    for baseline in (
        baselines.BASELINES["linear"],
        of_code["principal_components"],
    ):
        assert baseline.learns
        restored = baseline.restore(task)
        assert restored.setting == {"components": 1}
        np.testing.assert_allclose(restored.images, images, atol=1e-6)


def real_task(data_dir, stddev):
    config = Config(dataset="idx", data_dir=data_dir, noise_stddev=stddev)
    train, held_out = load_splits(config)
    dataset = make_eval_dataset(held_out, config)
    batches = list(dataset.take(num_eval_batches(held_out, config)).as_numpy_iterator())
    corrupted, clean = (
        np.concatenate([batch[part] for batch in batches])[: len(held_out)]
        for part in (0, 1)
    )
    train_clean = training_examples(train, config, len(train))
    train_corrupted = corrupted_examples(train_clean, config)
    return baselines.Task(clean, corrupted, train_clean, train_corrupted)


@pytest.mark.slow
def test_baselines_of_real_images_with_noise_of_0_5(real_data):
    """Reference values: computed by other code on the same set."""
    task = real_task(real_data, 0.5)
    assert psnr(task.clean, task.corrupted).mean() == pytest.approx(9.30, abs=0.05)
    for name, expected in {"blur": 13.27, "total_variation": 13.36}.items():
        restored = baselines.BASELINES[name].restore(task)
        assert psnr(task.clean, restored.images).mean() == pytest.approx(
            expected, abs=0.05
        ), name
    linear = baselines.linear_estimator(task)
    outputs = {
        number: least_squares(
            task.train_corrupted, task.train_clean, task.corrupted, number
        ).reshape(task.clean.shape)
        for number in (128, linear.setting["components"])
    }
    assert psnr(task.clean, outputs[128]).mean() == pytest.approx(17.20, abs=0.05)
    best = psnr(task.clean, linear.images).mean()
    assert best > psnr(task.clean, outputs[128]).mean()
    *_, expected = outputs.values()
    np.testing.assert_allclose(linear.images, expected, atol=1e-5)


def test_32_principal_components_of_real_images(real_data):
    task = real_task(real_data, 0.0)
    restored = baselines.principal_components(task, 32)
    expected = pytest.approx(19.00, abs=0.05)
    assert psnr(task.clean, restored.images).mean() == expected
