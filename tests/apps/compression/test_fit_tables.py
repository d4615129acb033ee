import numpy as np
import pytest

from aelab.apps.compression.fit_tables import fit_tables
from aelab.errors import UsageError


def test_probabilities_match_the_training_images_and_sum_to_one():
    rng = np.random.default_rng(0)
    symbols = np.rint(rng.normal(3, 2, (20_000, 1))).astype(np.int32)
    tables = fit_tables(symbols, 1.0)
    assert tables.classes.sum() == 2**24
    np.testing.assert_array_equal(tables.frequencies.sum(axis=1), 2**24)
    mixture = tables.classes / 2**24 @ (tables.frequencies / 2**24)
    shares = np.bincount(symbols[:, 0] - tables.lowest[0], minlength=tables.sizes[0])
    np.testing.assert_allclose(mixture, shares / 20_000, atol=0.02)


def test_classes_capture_dependence_between_places():
    """Four places that all hold one integer of eight take little more than 3 bits."""
    rng = np.random.default_rng(0)
    symbols = np.repeat(rng.integers(0, 8, (20_000, 1)), 4, axis=1).astype(np.int32)
    tables = fit_tables(symbols[:10_000], 1.0)
    bits = 8 * tables.encode(symbols[10_000:])[1] / 10_000
    assert 3 < bits < 4


def test_codes_with_too_wide_a_range_are_refused():
    with pytest.raises(UsageError, match="larger --quantiser_step"):
        fit_tables(np.array([[0], [5000]], np.int32), 1.0)
