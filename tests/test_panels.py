import numpy as np
import pytest
import tensorflow as tf

from aelab.panels import draw_panel, encode_png


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_stand_in_rows_enlarged_and_in_order(channels):
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


def test_png_gives_the_picture_back():
    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(tf.io.decode_png(encode_png(picture)), picture)
