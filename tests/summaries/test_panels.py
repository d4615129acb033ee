import numpy as np
import pytest
import tensorflow as tf

from aelab.summaries.panels import draw_panel, encode_png, num_columns, to_bytes


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_are_in_rows_enlarged_and_in_order(channels):
    rows = [np.full((5, 28, 20, channels), 0.25 * row, np.float32) for row in range(3)]
    for row in rows:
        row[:, 0, 0] = np.linspace(0.0, 1.0, 5)[:, None]
    picture = draw_panel(rows)
    scale, gap = 3, 4
    assert picture.dtype == np.uint8
    assert picture.shape == (
        3 * (28 * scale + gap) + gap,
        5 * (20 * scale + gap) + gap,
        channels,
    )
    assert (picture[:gap] == 255).all()
    for row in range(3):
        for column in range(5):
            top = gap + row * (28 * scale + gap)
            left = gap + column * (20 * scale + gap)
            tile = picture[top : top + 28 * scale, left : left + 20 * scale]
            assert (tile[-1, -1] == round(0.25 * row * 255)).all()
            assert (tile[:scale, :scale] == round(column / 4 * 255)).all()


def test_values_out_of_range_are_clamped():
    picture = draw_panel([np.array([-3.0, 7.0], np.float32).reshape(2, 1, 1, 1)])
    assert set(np.unique(picture)) == {0, 255}


def test_large_images_are_not_enlarged():
    assert draw_panel([np.zeros((2, 100, 90, 3), np.float32)]).shape == (108, 192, 3)


@pytest.mark.parametrize(
    ("height", "width", "columns"),
    [(28, 28, 12), (64, 64, 12), (256, 256, 6), (512, 512, 3), (9000, 9000, 2)],
)
def test_a_row_holds_as_many_images_as_fit(height, width, columns):
    shape = (height, width, 1)
    assert num_columns(shape) == columns
    if columns > 2:
        picture = draw_panel([np.zeros((columns, *shape), np.float32)])
        assert picture.shape[1] <= 1600


def test_bytes_are_the_nearest_levels():
    levels = np.arange(256, dtype=np.float32)
    for shift in (-0.4, 0.0, 0.4):
        np.testing.assert_array_equal(to_bytes((levels + shift) / 255), levels)


def test_a_png_decodes_to_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(tf.io.decode_png(encode_png(picture)), picture)
