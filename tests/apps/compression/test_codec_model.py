import numpy as np
import pytest
import tensorflow as tf
from codec_runs import some_images

from aelab.models import build_model
from aelab.models.codec import SCALE_GAIN, LogisticPrior
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.training.objective import forward

pytest_plugins = ["codec_runs"]


def test_the_prior_is_a_distribution_over_integers():
    """Its bytes follow from the intervals of the logistic distribution."""
    prior = LogisticPrior(2)
    prior.build()
    prior.set_weights([np.array([0.3, -2.0]), np.array([0.0, 0.1])])
    integers = np.arange(-60, 61, dtype=np.float32)
    code = np.stack([integers, np.full_like(integers, -2.0)], axis=1)
    constant = -np.log2(np.tanh(0.25 / np.exp(SCALE_GAIN * 0.1))) / 8
    probabilities = 2 ** (-8 * (prior(code).numpy() - constant))
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)
    edges = 1 / (1 + np.exp(-(np.arange(-60, 62) - 0.5 - 0.3)))
    np.testing.assert_allclose(probabilities[50:75], np.diff(edges)[50:75], rtol=1e-4)


def test_training_adds_noise_and_use_rounds(codec_run):
    autoencoder = load_trained(RunDirectory(codec_run), "best").autoencoder
    images = some_images(4).astype(np.float32) / 255
    used = forward(autoencoder, images, training=False)
    np.testing.assert_array_equal(used.code, np.round(used.encoded))
    np.testing.assert_array_equal(used.output, autoencoder.model(images))
    np.testing.assert_array_equal(used.code_bytes, autoencoder.prior(used.code))
    dither = np.full((4, 16), 0.25, np.float32)
    trained = forward(autoencoder, images, training=True, dither=dither)
    np.testing.assert_array_equal(trained.code, used.encoded + 0.25)


def test_every_weight_learns(codec_run):
    before = build_model(RunDirectory(codec_run).read_config(), (28, 28, 1))
    after = load_trained(RunDirectory(codec_run), "latest").autoencoder
    assert len(after.trainable_variables) == 14
    for old, new in zip(before.variables, after.variables, strict=True):
        assert old.path == new.path
        assert not np.array_equal(old, new), new.path
    assert len({v.path for v in after.variables}) == 14
    assert tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in after.variables])
