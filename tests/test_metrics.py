"""NumPy in float64 is the reference; for SSIM, the formula of Wang et al. 2004."""

import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import LOSSES, load
from aelab.metric_info import METRICS
from aelab.metrics import bce, image_metrics, masked_mse, mse, psnr, ssim

FUNCTIONS = [load(row.function, n) for n, row in METRICS.items() if row.function]


def pair(shape=(5, 16, 20, 1)):
    generator = np.random.default_rng(0)
    return generator.random(shape, np.float32), generator.random(shape, np.float32)


@pytest.mark.parametrize("metric", FUNCTIONS)
def test_a_metric_is_one_finite_float32_per_image(metric):
    clean, output = pair()
    values = metric(tf.constant(clean), tf.constant(output))
    assert values.shape == (5,)
    assert values.dtype == tf.float32
    assert np.isfinite(values).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_one_finite_float32_per_image(name):
    clean, output = map(tf.constant, pair())
    values = load(LOSSES[name], name)(clean, output, Config(loss=name))
    assert (values.shape, values.dtype) == ((5,), tf.float32)
    assert np.isfinite(values).all()


def test_training_computes_only_the_metrics_marked_for_it():
    clean, output = map(tf.constant, pair())
    assert set(image_metrics(clean, output)) == {"bce", "mse", "psnr", "ssim"}
    assert set(image_metrics(clean, output, training=True)) == {"psnr"}


@pytest.mark.parametrize("metric", FUNCTIONS)
def test_eager_and_compiled_agree(metric):
    clean, output = map(tf.constant, pair())
    np.testing.assert_allclose(
        tf.function(metric)(clean, output), metric(clean, output), rtol=1e-5
    )


def test_mse_is_the_formula_and_does_not_clamp_the_output():
    clean, output = pair()
    wild = output * 4 - 1.5
    expected = ((clean.astype(float) - wild) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(mse(clean, wild), expected, rtol=1e-5)


def test_masked_mse_is_the_formula_and_does_not_clamp_the_output():
    clean, output = pair((5, 16, 20, 3))
    wild = output * 4 - 1.5
    mask = np.random.default_rng(1).integers(0, 2, (5, 16, 20, 1)).astype(np.float32)
    errors = (clean.astype(float) - wild) ** 2 * mask
    expected = errors.sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    np.testing.assert_allclose(masked_mse(clean, wild, mask), expected, rtol=1e-5)


def test_bce_is_the_formula():
    clean, output = pair()
    x, y = clean.astype(float), output.astype(float)
    expected = -(x * np.log(y) + (1 - x) * np.log(1 - y)).mean((1, 2, 3))
    np.testing.assert_allclose(bce(clean, output), expected, rtol=1e-5)


def test_psnr_is_the_mean_of_logs_not_the_log_of_the_mean():
    clean, output = pair()
    error = ((clean.astype(float) - output) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(psnr(clean, output), -10 * np.log10(error), rtol=1e-5)


def test_psnr_clamps_the_output():
    clean, output = pair()
    wild = tf.constant(output) * 4 - 1.5
    clamped = tf.clip_by_value(wild, 0.0, 1.0)
    np.testing.assert_array_equal(psnr(clean, wild), psnr(clean, clamped))


def test_ssim_clamps_the_output():
    clean, output = pair()
    wild = tf.constant(output) * 4 - 1.5
    clamped = tf.clip_by_value(wild, 0.0, 1.0)
    np.testing.assert_array_equal(ssim(tf.constant(clean), wild), ssim(clean, clamped))
    assert not np.allclose(
        ssim(tf.constant(clean), tf.constant(output)), ssim(clean, clamped)
    )


def test_an_exact_copy_has_100_db_and_an_ssim_of_1():
    clean, _ = map(tf.constant, pair())
    np.testing.assert_allclose(psnr(clean, clean), 100.0, rtol=1e-6)
    np.testing.assert_allclose(ssim(clean, clean), 1.0, rtol=1e-6)


def reference_ssim(x, y, window):
    """Mean SSIM of two images [H, W], Gaussian window of standard deviation 1.5."""
    offsets = np.arange(window) - (window - 1) / 2
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    views = [
        np.lib.stride_tricks.sliding_window_view(image, (window, window))
        for image in (x, y, x * x, y * y, x * y)
    ]
    mx, my, xx, yy, xy = ((view * kernel).sum((2, 3)) for view in views)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    structure = (2 * (xy - mx * my) + c2) / (xx - mx**2 + yy - my**2 + c2)
    return (luminance * structure).mean()


@pytest.mark.parametrize(
    ("shape", "window"), [((3, 28, 28, 1), 11), ((3, 8, 28, 1), 8)]
)
def test_ssim_is_the_papers_formula(shape, window):
    clean, noise = pair(shape)
    output = np.clip(clean + 0.3 * (noise - 0.5), 0, 1)
    expected = [
        reference_ssim(x[..., 0].astype(float), y[..., 0].astype(float), window)
        for x, y in zip(clean, output, strict=True)
    ]
    np.testing.assert_allclose(
        ssim(tf.constant(clean), tf.constant(output)), expected, atol=2e-5
    )


def test_bce_is_exact_where_the_sigmoid_saturates():
    """Value and derivative against float64, for logits from -100 to 100."""
    logits = np.concatenate([np.linspace(-100, 100, 401), [-17.5, 16.8, 0.1]])
    for target in (0.0, 0.3, 1.0):
        z = tf.constant(logits.reshape(-1, 1, 1, 1), tf.float32)

        @tf.function
        def compute(z, target=target):
            with tf.GradientTape() as tape:
                tape.watch(z)
                values = bce(tf.fill(z.shape, target), tf.sigmoid(z))
            return values, tape.gradient(values, z)

        values, slopes = compute(z)
        exact = np.logaddexp(0, logits) - target * logits
        np.testing.assert_allclose(values, exact, rtol=1e-6, atol=1e-6)
        slope = 1 / (1 + np.exp(-logits)) - target
        np.testing.assert_allclose(np.ravel(slopes), slope, atol=2e-7)
