import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import MODELS
from aelab.data.batch import Batch, EvalBatch
from aelab.models import build_model
from aelab.training.objective import (
    evaluate_batch,
    flat_code,
    forward,
    forward_any_size,
    image_losses,
    training_metrics,
)

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


def test_metrics_are_those_of_the_table_and_the_loss():
    config = Config(model="codec", encoding_dim=4)
    model = build_model(config, SHAPE)
    result = forward(model, IMAGES, training=False)
    trained = training_metrics(config, Batch(IMAGES, IMAGES), result)
    assert trained.keys() == {"psnr", "loss", "code_bytes"}
    batch = EvalBatch(IMAGES, IMAGES, tf.ones(3))
    output, evaluated = evaluate_batch(model, config, batch)
    names = {"bce", "mse", "psnr", "ssim"}
    assert evaluated.keys() == names | {"loss", "code_bytes"}
    np.testing.assert_array_equal(output, result.output)
    for value in (*trained.values(), *evaluated.values()):
        assert value.shape == (3,)


@pytest.mark.parametrize("name", ["unet", "resunet"])
def test_a_picture_of_any_size_is_extended_by_its_reflection(name):
    config = Config(model=name, filters=4)
    shape = (None, None, 1)
    autoencoder = build_model(config, shape)
    for height, width in ((17, 22), (24, 25), (16, 24)):
        image = np.random.default_rng(0).random((1, height, width, 1), np.float32)
        padding = [(0, 0), (0, -height % 8), (0, -width % 8), (0, 0)]
        wide = np.pad(image, padding, mode="reflect")
        output = forward_any_size(autoencoder, tf.constant(image)).output
        assert output.shape == image.shape
        if name == "resunet":
            expected = autoencoder.model(wide)[:, :height, :width]
            np.testing.assert_allclose(output, expected, atol=1e-6)
