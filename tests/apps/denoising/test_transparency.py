import numpy as np
import pytest

from aelab.apps.denoising.transparency import fill_transparent


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_transparent_pixels_get_visible_colors_near_them(dtype):
    generator = np.random.default_rng(0)
    pixels = generator.integers(1, 200, (13, 21, 4)).astype(dtype)
    if dtype == "float32":
        pixels /= 200
    pixels[..., 3] = generator.random((13, 21)) < 0.3
    pixels[9:, 9:, 3] = 0
    hidden = pixels[..., 3] == 0
    pixels[hidden] = 0
    filled = fill_transparent(pixels)
    assert filled.dtype == pixels.dtype
    np.testing.assert_array_equal(filled[~hidden], pixels[~hidden])
    np.testing.assert_array_equal(filled[..., 3], pixels[..., 3])
    visible = pixels[~hidden][:, :3]
    colors = filled[hidden][:, :3]
    assert len(np.unique(colors)) > 20
    assert (colors >= visible.min(axis=0)).all()
    assert (colors <= visible.max(axis=0)).all()


def test_a_flat_cut_out_is_continued():
    pixels = np.zeros((8, 11, 2), np.uint8)
    pixels[3, 4] = (77, 255)
    filled = fill_transparent(pixels)
    assert (filled[..., 0] == 77).all()


@pytest.mark.parametrize("alpha", [0, 255])
def test_without_a_visible_or_a_transparent_pixel_nothing_changes(alpha):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 4), np.uint8)
    pixels[..., 3] = alpha
    np.testing.assert_array_equal(fill_transparent(pixels), pixels)
