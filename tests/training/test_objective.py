import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import MODELS
from aelab.models import build_model
from aelab.training.objective import batch_metrics, flat_code, forward, image_losses

SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).random((3, *SHAPE), np.float32)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_forward_pass_is_the_model(name):
    autoencoder = build_model(Config(model=name), SHAPE)
    result = forward(autoencoder, IMAGES, training=False)
    np.testing.assert_array_equal(result.output, autoencoder.model(IMAGES))
    assert (result.code_bytes is None) == (autoencoder.prior is None)
    assert flat_code(result.code).shape[0] == 3


def test_dither_reaches_the_bottleneck():
    autoencoder = build_model(Config(model="codec", encoding_dim=4), SHAPE)
    dither = tf.fill([3, 4], 0.25)
    result = forward(autoencoder, IMAGES, training=True, dither=dither)
    np.testing.assert_array_equal(result.code, result.encoded + 0.25)


def test_the_rate_is_a_term_of_the_loss():
    config = Config(model="codec", encoding_dim=4, rate_weight=0.5)
    result = forward(build_model(config, SHAPE), IMAGES, training=False)
    without = image_losses(Config(model="codec", encoding_dim=4), IMAGES, result)
    expected = without + 0.5 * result.code_bytes
    np.testing.assert_allclose(image_losses(config, IMAGES, result), expected, 1e-6)


@pytest.mark.parametrize(
    ("training", "names"), [(True, {"psnr"}), (False, {"bce", "mse", "psnr", "ssim"})]
)
def test_batch_metrics_are_the_loss_and_the_metrics(training, names):
    config = Config(model="codec", encoding_dim=4)
    result = forward(build_model(config, SHAPE), IMAGES, training=False)
    values = batch_metrics(config, IMAGES, result, training)
    assert values.keys() == names | {"loss", "code_bytes"}
    assert all(value.shape == (3,) for value in values.values())
