from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.data.pipeline import make_eval_dataset, make_train_dataset
from aelab.data.pixels import to_8_bits, to_bytes, to_unit, unit_table, unit_tensor
from aelab.data.reading import read_images
from aelab.data.sources import ArraySource

ALL = np.arange(256, dtype=np.uint8)


def test_the_table_is_correctly_rounded():
    """No float32 is nearer to k / 255."""
    table = unit_table()
    assert table.dtype == np.float32 and len(table) == 256
    for k, value in enumerate(table):
        errors = [
            abs(Fraction(float(number)) - Fraction(k, 255))
            for number in (value, np.nextafter(value, -1), np.nextafter(value, 2))
        ]
        assert errors[0] == min(errors)


@pytest.mark.parametrize("use_xla", [None, False, True])
def test_tensors_have_the_same_bits_on_every_path(use_xla):
    convert = unit_tensor
    if use_xla is not None:
        convert = tf.function(unit_tensor, jit_compile=use_xla)
    np.testing.assert_array_equal(convert(tf.constant(ALL)), unit_table(), strict=True)


def test_batches_have_them_as_well():
    """Outside of a function, in one, and in both datasets."""
    source = ArraySource(ALL.reshape(256, 1, 1, 1))
    config, every = Config(batch_size=256), tf.range(256, dtype=tf.int64)
    in_a_function = tf.function(lambda: read_images(source, every))
    _, evaluated, _ = next(iter(make_eval_dataset(source, config)))
    _, trained = next(iter(make_train_dataset(source, config, first_step=3)))
    for images in (read_images(source, every), in_a_function(), evaluated, trained):
        np.testing.assert_array_equal(np.unique(images), unit_table())


def test_bytes_round_trip():
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    unit = to_unit(images)
    assert unit.dtype == np.float32 and (unit.min(), unit.max()) == (0, 1)
    np.testing.assert_array_equal(to_bytes(unit), images, strict=True)


def test_other_values_are_clamped_and_rounded():
    values = np.array([-0.1, 0.4 / 255, 0.6 / 255, 254.4 / 255, 1.5])
    np.testing.assert_array_equal(to_bytes(values), [0, 0, 1, 254, 255])


def test_16_bits_are_correctly_rounded_shares_of_white():
    every = np.arange(65536, dtype=np.uint16)
    expected = (every / np.float64(65535)).astype(np.float32)
    np.testing.assert_array_equal(unit_tensor(tf.constant(every)), expected)
    compiled = tf.function(unit_tensor, jit_compile=True)(tf.constant(every))
    np.testing.assert_array_equal(compiled, expected)
    bytes_ = np.arange(256, dtype=np.uint8)
    same = unit_tensor(tf.constant(bytes_ * np.uint16(257)))
    np.testing.assert_array_equal(same, unit_tensor(tf.constant(bytes_)))


def test_16_bits_become_the_nearest_8():
    every = np.arange(65536, dtype=np.uint16)
    found = to_8_bits(every)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(float) - every / 257).max() <= 0.5
    np.testing.assert_array_equal(to_8_bits(found), found)
