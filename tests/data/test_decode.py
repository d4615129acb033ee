"""Whole pictures and 16 bits. test_image_files.py has the squares of 8 bits."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from aelab.apps.denoising.png import write_png
from aelab.data.decode import read_deep_color, read_square, read_stored

RANDOM = np.random.default_rng(0)
HEIGHT, WIDTH, SIZE = 11, 14, 5
PLACES = [(0, 0), (2**31, 2**30), (2**32 - 1, 2**32 - 1)]
WAYS = ["png", "tif", "tif-big-endian", "tif-zlib"]


def deep_file(folder, way, pixels):
    """Writes uint16 [H, W, 1, 3 or 4] losslessly."""
    kind, _, how = way.partition("-")
    path = str(folder / f"a.{kind}")
    if kind == "png":
        write_png(path, [pixels])
        return path
    options = {"big-endian": {"byteorder": ">"}, "zlib": {"compression": "zlib"}}
    shape = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    color = "minisblack" if pixels.shape[2] == 1 else "rgb"
    if pixels.shape[2] == 4:
        options.setdefault(how, {})
        options[how] |= {"extrasamples": ["unassalpha"]}
    tifffile.imwrite(path, shape, photometric=color, **options.get(how, {}))
    return path


def random_pixels(channels, largest=65535):
    shape = (HEIGHT, WIDTH, channels)
    return RANDOM.integers(0, largest + 1, shape).astype(np.uint16)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("channels", [1, 3])
def test_all_16_bits_are_read(tmp_path, way, channels):
    pixels = random_pixels(channels)
    path = deep_file(tmp_path, way, pixels)
    found = read_stored(path, SIZE, channels, deep=True).upright()
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, pixels)
    color = read_stored(path, SIZE, 3, deep=True).upright()
    np.testing.assert_array_equal(color, np.broadcast_to(pixels, color.shape))


@pytest.mark.parametrize("way", WAYS)
def test_color_of_16_bits_becomes_gray_by_its_luma(tmp_path, way):
    pixels = random_pixels(3)
    found = read_stored(deep_file(tmp_path, way, pixels), 1, 1, deep=True).pixels
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found[..., 0] - luma).max() <= 0.501


@pytest.mark.parametrize("way", WAYS)
def test_transparent_parts_of_16_bits_become_white(tmp_path, way):
    pixels = random_pixels(4)
    found = read_stored(deep_file(tmp_path, way, pixels), 1, 3, deep=True).pixels
    alpha = pixels[..., 3:] / 65535
    expected = pixels[..., :3] * alpha + 65535 * (1 - alpha)
    assert np.abs(found - expected).max() <= 0.501


@pytest.mark.parametrize("channels", [1, 3])
def test_the_white_level_becomes_the_largest_value(tmp_path, channels):
    pixels = random_pixels(channels, largest=5000)
    path = deep_file(tmp_path, "png", pixels)
    found = read_stored(path, 1, channels, white_level=4095, deep=True).pixels
    expected = np.minimum(pixels / 4095, 1) * 65535
    assert np.abs(found - expected).max() <= 0.501


def test_8_bits_become_the_same_share_of_16(tmp_path):
    pixels = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    path = str(tmp_path / "a.png")
    Image.fromarray(pixels).save(path)
    shallow, deep = (read_stored(path, 1, 3, deep=deep).pixels for deep in (0, 1))
    np.testing.assert_array_equal(shallow, pixels)
    np.testing.assert_array_equal(deep, pixels * np.uint16(257))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_squares_of_a_whole_picture_are_those_of_the_file(tmp_path, orientation):
    pixels = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = orientation
    path = str(tmp_path / "a.png")
    picture.save(path, exif=exif)
    stored = read_stored(path, SIZE, 3)
    assert stored.orientation == orientation
    for place in PLACES:
        expected = read_square(path, SIZE, 3, *place)
        np.testing.assert_array_equal(stored.square(SIZE, *place), expected)
    # The upper left corner of the upright picture, by the definition of the tag.
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0)}
    corners |= {5: (0, 0), 6: (-1, 0), 7: (-1, -1), 8: (0, -1)}
    upright = stored.upright()
    assert upright.shape == (
        (HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT)
    ) + (3,)
    np.testing.assert_array_equal(upright[0, 0], pixels[corners[orientation]])


def test_only_color_of_16_bits_is_deep_color(tmp_path):
    path = deep_file(tmp_path, "png", random_pixels(1))
    with pytest.raises(ValueError, match="does not have 16 bits of color"):
        read_deep_color(path)
    pixels = random_pixels(4)
    path = deep_file(tmp_path, "tif-zlib", pixels)
    np.testing.assert_array_equal(read_deep_color(path), pixels)


def test_a_tiff_file_with_separate_channels_of_16_bits_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    pixels = np.moveaxis(random_pixels(3), 2, 0)
    tifffile.imwrite(path, pixels, photometric="rgb", planarconfig="separate")
    with pytest.raises(ValueError, match="channels stored together"):
        read_stored(str(path), 1, 3, deep=True)
