import numpy as np
import pytest

from aelab.config import Config
from aelab.config.registry import PANELS, load
from aelab.data.pipeline import make_eval_dataset
from aelab.data.sources import ArraySource
from aelab.models import build_model
from aelab.training.samples import Sampler

SHAPE = (8, 8, 1)
CONFIG = Config(noise_stddev=0.3, batch_size=64)


def source(count):
    generator = np.random.default_rng(0)
    return ArraySource(generator.integers(0, 256, (count, *SHAPE), np.uint8))


@pytest.mark.parametrize(("count", "expected"), [(5, 5), (100, 12)])
def test_a_sample_has_as_many_of_the_first_images_as_fit_in_a_row(count, expected):
    autoencoder = build_model(CONFIG, SHAPE)
    sample = Sampler(autoencoder, source(count), CONFIG)()
    corrupted, clean, _ = next(iter(make_eval_dataset(source(count), CONFIG)))
    np.testing.assert_array_equal(sample.clean, clean[:expected])
    np.testing.assert_array_equal(sample.corrupted, corrupted[:expected])
    output = autoencoder.model(sample.corrupted)
    np.testing.assert_allclose(sample.output, output, atol=1e-6)
    assert sample.code.shape == (expected, 2 * 2 * 32)


def test_a_sample_follows_the_weights():
    autoencoder = build_model(CONFIG, SHAPE)
    sampler = Sampler(autoencoder, source(5), CONFIG)
    before = sampler()
    for variable in autoencoder.variables:
        variable.assign(2 * variable.numpy() + 0.1)
    after = sampler()
    assert np.abs(before.output - after.output).max() > 0.01
    np.testing.assert_array_equal(before.corrupted, after.corrupted)


@pytest.mark.parametrize("tag", PANELS)
def test_a_panel_has_rows_of_images_and_a_description(tag):
    panel = load(PANELS[tag], tag)
    rows = panel(Sampler(build_model(CONFIG, SHAPE), source(5), CONFIG)())
    assert {images.shape for images in rows.values()} == {(5, *SHAPE)}
    assert panel.__doc__.partition("\n")[0].endswith(".")
