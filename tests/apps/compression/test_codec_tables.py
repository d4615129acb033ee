import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelab.apps.compression.fit_tables import fit_tables
from aelab.apps.compression.tables import Tables
from aelab.errors import UsageError


@given(
    st.lists(st.tuples(st.integers(-40, 40), st.integers(-1, 1)), min_size=1),
    st.lists(st.tuples(st.integers(-45, 45), st.integers(-3, 3))),
)
def test_symbols_within_the_tables_come_back(fitted, coded):
    tables = fit_tables(np.array(fitted, np.int32), 1.0)
    symbols = np.array(coded, np.int32).reshape(-1, 2)
    highest = tables.lowest + tables.sizes - 1
    symbols = np.clip(symbols, tables.lowest, highest).astype(np.int32)
    content, ideal_bytes = tables.encode(symbols)
    np.testing.assert_array_equal(tables.decode(content, len(symbols)), symbols)
    assert len(content) <= ideal_bytes * 1.001 + 16
    again = Tables.from_arrays(tables.arrays())
    assert again.crc == tables.crc


def test_each_image_is_coded_in_its_shortest_class():
    rng = np.random.default_rng(1)
    symbols = rng.integers(-3, 4, (500, 3)).astype(np.int32)
    tables = fit_tables(symbols, 1.0)
    bits = tables.bits(symbols)
    assert bits.shape == (len(tables.classes), 500)
    places = np.cumsum(tables.sizes) - tables.sizes + symbols - tables.lowest
    shares = tables.frequencies / 2**24
    expected = -np.log2(shares[:, places]).sum(axis=2)
    expected -= np.log2(tables.classes / 2**24)[:, None]
    np.testing.assert_allclose(bits, expected, rtol=1e-5)
    content, ideal_bytes = tables.encode(symbols)
    assert ideal_bytes == pytest.approx(expected.min(axis=0).sum() / 8)
    assert ideal_bytes < len(content) < ideal_bytes + 16


def test_inconsistent_tables_are_refused():
    good = fit_tables(np.zeros((3, 2), np.int32), 1.0).arrays()
    for name, change in {
        "tables/step": lambda a: a * 0,
        "tables/lowest": lambda a: a[:1],
        "tables/sizes": lambda a: a + 1,
        "tables/classes": lambda a: a[:1],
        "tables/frequencies": lambda a: a[::-1] * 2,
    }.items():
        with pytest.raises(ValueError):
            Tables.from_arrays(good | {name: change(good[name])})


def test_content_of_the_wrong_length_is_refused():
    tables = fit_tables(np.arange(60, dtype=np.int32).reshape(30, 2), 1.0)
    content, _ = tables.encode(np.arange(60, dtype=np.int32).reshape(30, 2))
    with pytest.raises(ValueError):
        tables.decode(content, 20)
    with pytest.raises(ValueError):
        tables.decode(content[:-3], 30)


def test_the_message_without_constriction_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(UsageError, match=r"constriction.*\[codec\]"):
        fit_tables(np.zeros((3, 2), np.int32), 1.0)
