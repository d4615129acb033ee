import numpy as np
import pytest
from sklearn.decomposition import PCA

from aelab.apps.compression import baselines
from aelab.config import Config
from aelab.data.sources import load_part


def test_pca_points_match_scikit_learn_with_rounding():
    source = load_part(Config(train_examples=300), "train")
    images = source.read(np.arange(300))[:, ::2, ::2]
    first = next(baselines.principal_components(images[:50], images[50:]))
    flat = images.reshape(300, -1) / 255
    pca = PCA(16, svd_solver="full").fit(flat[50:])
    codes = np.rint(pca.transform(flat[:50]) / 0.35) * 0.35
    expected = np.clip(pca.inverse_transform(codes), 0, 1) * 255
    assert first.setting == "16 components, step 0.35"
    errors = np.abs(first.images.reshape(50, -1) - expected)
    assert np.mean(errors) < 1  # of 255; signs of components may differ


@pytest.mark.parametrize("count", [1, 2, 7, 12])
@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 30, 3)])
def test_a_mosaic_splits_into_its_images(count, shape):
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
    joined = baselines._join(images)
    assert joined.ndim == 3 and joined.shape[2] == shape[2]
    np.testing.assert_array_equal(joined[: shape[0], : shape[1]], images[0])
    np.testing.assert_array_equal(baselines._split(joined, images.shape), images)
