from fractions import Fraction

import numpy as np

from aelab.data.pixels import to_bytes, to_unit, unit_table


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


def test_bytes_round_trip():
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    unit = to_unit(images)
    assert unit.dtype == np.float32 and (unit.min(), unit.max()) == (0, 1)
    np.testing.assert_array_equal(to_bytes(unit), images, strict=True)


def test_other_values_are_clamped_and_rounded():
    values = np.array([-0.1, 0.4 / 255, 0.6 / 255, 254.4 / 255, 1.5])
    np.testing.assert_array_equal(to_bytes(values), [0, 0, 1, 254, 255])
