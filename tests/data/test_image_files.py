import os
import struct
import warnings
import weakref
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from aelab.apps.denoising.png import write_png
from aelab.data.decode import read_square
from aelab.data.image_files import (
    brightness,
    failure_reason,
    has_16_bits,
    opened,
    quiet_pillow,
)

HEIGHT, WIDTH, SIZE = 23, 31, 8
LAST = 2**32 - 1  # the last position
RANDOM = np.random.default_rng(0)
COLOR = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GRAY = RANDOM.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
ALPHA = RANDOM.integers(0, 256, (HEIGHT, WIDTH), np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)
    return str(path)


def corner(path, channels=3):
    """The bottom right square."""
    return read_square(path, SIZE, channels, LAST, LAST)


def failure(path, size=SIZE):
    """The reason why a picture can't be read."""
    with pytest.raises(Exception) as caught:
        read_square(str(path), size, 3, 0, 0)
    return failure_reason(caught.value)


def luma(color):
    return color @ np.array([0.299, 0.587, 0.114])


def on_white(color, alpha):
    share = alpha[..., None] / 255
    return color * share + 255 * (1 - share)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".PNG"])
def test_lossless_color_is_read_exactly(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"a{suffix}", COLOR, **options)
    expected = COLOR[-SIZE:, -SIZE:]
    np.testing.assert_array_equal(corner(path), expected, strict=True)
    gray = corner(path, channels=1)
    assert gray.shape == (SIZE, SIZE, 1) and gray.dtype == np.uint8
    assert np.abs(gray[..., 0] - luma(expected)).max() <= 0.51


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".tiff"])
def test_gray_is_read_exactly_as_one_or_three_channels(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", GRAY)
    expected = GRAY[-SIZE:, -SIZE:, None]
    np.testing.assert_array_equal(corner(path, channels=1), expected, strict=True)
    np.testing.assert_array_equal(corner(path), np.tile(expected, 3), strict=True)


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.JPG", "named.png"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_is_decoded_like_pillow_under_any_name(tmp_path, name, mode):
    path = save(tmp_path / name, Image.fromarray(COLOR).convert(mode), format="JPEG")
    whole = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(corner(path), whole[-SIZE:, -SIZE:], strict=True)


def test_cmyk_becomes_rgb(tmp_path):
    cmyk = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    path = save(
        tmp_path / "a.jpg", Image.frombytes("CMYK", (WIDTH, HEIGHT), cmyk.tobytes())
    )
    ink = np.asarray(Image.open(path))[-SIZE:, -SIZE:] / 255
    expected = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    assert np.abs(corner(path) - expected).max() <= 1


def test_palettes_become_rgb(tmp_path):
    picture = Image.fromarray(COLOR).quantize(16)
    expected = np.asarray(picture.convert("RGB"))[-SIZE:, -SIZE:]
    for suffix in (".png", ".gif", ".bmp", ".tif"):
        path = save(tmp_path / f"a{suffix}", picture)
        np.testing.assert_array_equal(corner(path), expected)


def test_one_bit_pictures_are_black_and_white(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(GRAY > 127))
    expected = 255 * (GRAY > 127)[-SIZE:, -SIZE:, None]
    np.testing.assert_array_equal(corner(path, channels=1), expected)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_gray_keeps_the_upper_8_bits(tmp_path, suffix):
    deep = RANDOM.integers(0, 2**16, (HEIGHT, WIDTH), np.uint16)
    path = save(tmp_path / f"a{suffix}", deep)
    expected = (deep >> 8)[-SIZE:, -SIZE:, None]
    np.testing.assert_array_equal(corner(path, channels=1), expected)
    np.testing.assert_array_equal(corner(path), np.tile(expected, 3))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_white_level_of_16_bit_gray_becomes_255(tmp_path, suffix):
    deep = RANDOM.integers(0, 5000, (HEIGHT, WIDTH), np.uint16)
    path = save(tmp_path / f"a{suffix}", deep)
    found = read_square(path, SIZE, 1, 0, 0, white_level=4095)
    expected = np.rint(np.minimum(deep[:SIZE, :SIZE, None] / 4095, 1) * 255)
    np.testing.assert_array_equal(found, expected)
    assert brightness(path) == deep.max() / 65535
    with opened(path) as picture:
        assert has_16_bits(picture)
    with opened(save(tmp_path / f"b{suffix}", COLOR)) as picture:
        assert not has_16_bits(picture)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_the_white_level_of_16_bit_color_becomes_255(tmp_path, channels):
    deep = RANDOM.integers(0, 5000, (SIZE + 3, SIZE + 5, channels), np.uint16)
    if channels != 3:
        deep[..., -1] = RANDOM.integers(0, 256, deep.shape[:2]) * 256
    path = str(tmp_path / "a.png")
    write_png(path, [deep])
    found = read_square(path, SIZE, 3, LAST, LAST, white_level=4095)
    color = deep[-SIZE:, -SIZE:, : 3 if channels > 2 else 1]
    expected = np.rint(np.minimum(color / 4095, 1) * 255) * np.ones(3)
    if channels == 3:
        np.testing.assert_array_equal(found, expected)
    else:
        expected = on_white(expected, deep[-SIZE:, -SIZE:, -1] // 256)
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_transparent_pixels_are_composited_onto_white(tmp_path, suffix):
    pixels = np.dstack([COLOR, ALPHA])
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"a{suffix}", pixels, **options)
    expected = on_white(COLOR, ALPHA)[-SIZE:, -SIZE:]
    assert np.abs(corner(path) - expected).max() <= 1
    gray = corner(path, channels=1)[..., 0]
    assert np.abs(gray - luma(expected)).max() <= 2


def test_gray_with_alpha_is_composited_onto_white(tmp_path):
    path = save(tmp_path / "a.png", np.dstack([GRAY, ALPHA]))
    expected = on_white(GRAY[..., None], ALPHA)[-SIZE:, -SIZE:]
    assert np.abs(corner(path, channels=1) - expected).max() <= 1


def test_a_transparent_16_bit_gray_becomes_white(tmp_path):
    deep = RANDOM.integers(0, 2**16, (HEIGHT, WIDTH), np.uint16)
    deep[::2] = 777
    path = save(tmp_path / "a.png", deep, transparency=777)
    expected = np.where(deep == 777, 255, deep >> 8)[-SIZE:, -SIZE:, None]
    assert (expected == 255).sum() > SIZE
    np.testing.assert_array_equal(corner(path, channels=1), expected)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_a_transparent_color_of_a_palette_becomes_white(tmp_path, suffix):
    indices = RANDOM.integers(0, 4, (HEIGHT, WIDTH), np.uint8)
    colors = RANDOM.integers(0, 256, (4, 3), np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(colors.tobytes())
    path = save(tmp_path / f"a{suffix}", picture, transparency=2)
    colors[2] = 255
    np.testing.assert_array_equal(corner(path), colors[indices][-SIZE:, -SIZE:])


def test_a_palette_with_alpha_is_composited_onto_white(tmp_path):
    indices = RANDOM.integers(0, 4, (HEIGHT, WIDTH), np.uint8)
    colors = RANDOM.integers(0, 256, (4, 3), np.uint8)
    alphas = np.array([255, 0, 100, 200], np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(colors.tobytes())
    path = save(tmp_path / "a.png", picture, transparency=alphas.tobytes())
    expected = on_white(colors[indices], alphas[indices])[-SIZE:, -SIZE:]
    assert np.abs(corner(path) - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_the_first_frame_of_an_animation_is_read(tmp_path, suffix):
    frames = [Image.fromarray(np.full_like(GRAY, v)) for v in (10, 200, 90)]
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(
        *(tmp_path / f"a{suffix}", frames[0]),
        save_all=True,
        append_images=frames[1:],
        **options,
    )
    with Image.open(path) as picture:
        assert picture.n_frames == 3
    np.testing.assert_array_equal(corner(path), np.full([SIZE, SIZE, 3], 10))


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    """EXIF 2.3, 4.6.4 A: the position of the file's first row and column on screen."""
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"a{suffix}", COLOR, exif=exif, **options)
    stored = np.asarray(Image.open(path).convert("RGB"))[-SIZE:, -SIZE:]
    np.testing.assert_array_equal(corner(path), TURNS[orientation](stored))


def test_a_picture_of_exactly_the_size_is_read_whole(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    square = COLOR[:SIZE, :SIZE]
    path = save(tmp_path / "a.png", square, exif=exif)
    for place in (0, 2**31, LAST):
        found = read_square(path, SIZE, 3, place, place)
        np.testing.assert_array_equal(found, np.rot90(square, -1))


@pytest.mark.parametrize("orientation", TURNS)
def test_a_tiff_picture_is_turned_before_the_crop(tmp_path, orientation):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x112] = orientation
    path = save(tmp_path / "a.tif", COLOR, tiffinfo=tags)
    upright = TURNS[orientation](COLOR)
    np.testing.assert_array_equal(corner(path), upright[-SIZE:, -SIZE:])


@pytest.mark.parametrize(("mode", "bits"), [("F", 32), ("I", 32)])
def test_a_tiff_file_with_too_many_bits_is_refused(tmp_path, mode, bits):
    path = save(tmp_path / "a.tif", Image.fromarray(GRAY).convert(mode))
    assert failure(path).startswith(f"it has {bits} bits per channel")


@pytest.mark.parametrize(
    ("down", "right", "top", "left"),
    [
        (0, 0, 0, 0),
        (LAST, 0, HEIGHT - SIZE, 0),
        (0, LAST, 0, WIDTH - SIZE),
        (2**31, 2**31, (HEIGHT - SIZE + 1) // 2, (WIDTH - SIZE + 1) // 2),
    ],
)
def test_the_position_of_the_crop(tmp_path, down, right, top, left):
    path = save(tmp_path / "a.png", COLOR)
    found = read_square(path, SIZE, 3, down, right)
    expected = COLOR[top : top + SIZE, left : left + SIZE]
    np.testing.assert_array_equal(found, expected)


def test_all_positions_are_equally_likely(tmp_path):
    rows = np.arange(SIZE + 4, dtype=np.uint8)  # 5 positions
    path = save(tmp_path / "a.png", np.tile(rows[:, None], SIZE))
    numbers = np.linspace(0, LAST, 501).astype(np.int64)
    found = [int(read_square(path, SIZE, 1, int(n), 0)[0, 0, 0]) for n in numbers]
    np.testing.assert_array_equal(found, numbers * 5 // 2**32)
    assert set(found) == set(range(5))


def test_a_file_that_is_not_a_picture_is_refused(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("name,label\n" * 9)
    assert failure(text).startswith(
        "it is not a picture in the format BMP, GIF, JPEG, PNG, TIFF, WEBP"
    )
    other = save(tmp_path / "other.png", COLOR, format="PPM")
    assert failure(other) == failure(text)
    (tmp_path / "empty.png").touch()
    assert failure(tmp_path / "empty.png") == "it is empty"
    (tmp_path / "folder.png").mkdir()
    assert failure(tmp_path / "folder.png") == "it is not a regular file"
    assert failure(tmp_path / "none.png") == "No such file or directory"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif", ".tif"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", COLOR)
    size = os.path.getsize(path)
    os.truncate(path, size * 2 // 3)
    reason = failure(path)
    assert reason and reason.isprintable()


def test_the_size_of_too_small_a_picture_is_reported(tmp_path):
    path = save(tmp_path / "a.png", COLOR)
    for size in (HEIGHT + 1, WIDTH + 1):
        reason = failure(path, size)
        assert f"{WIDTH} x {HEIGHT} pixels" in reason
        assert f"--image_size={size}" in reason
    assert read_square(path, HEIGHT, 3, 0, 0).shape == (HEIGHT, HEIGHT, 3)


def test_pillow_is_quiet(tmp_path):
    path = str(tmp_path / "a.png")
    Image.new("P", (SIZE, SIZE)).save(path, transparency=b"\x7f")

    def convert():
        with opened(path, SIZE) as picture:
            picture.convert("RGB")  # which loses the transparency

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with quiet_pillow():
            convert()
        assert not seen
        convert()
        assert seen


@pytest.mark.parametrize(("height", "is_allowed"), [(15_625, True), (15_626, False)])
def test_pictures_of_up_to_250_megapixels_are_read(tmp_path, height, is_allowed):
    path = tmp_path / "a.png"
    head = b"IHDR" + struct.pack(">IIBBBBB", 16_000, height, 8, 0, 0, 0, 0)
    content = Path(save(path, GRAY)).read_bytes()
    crc = struct.pack(">I", zlib.crc32(head))
    path.write_bytes(content[:12] + head + crc + content[33:])
    if is_allowed:
        with opened(str(path)) as picture:
            assert picture.size == (16_000, height)
    else:
        assert failure(path).startswith("it declares 16,000 x 15,626 pixels")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif", ".tif"])
def test_a_decoded_picture_is_freed_after_its_crop(tmp_path, monkeypatch, suffix):
    path, seen = save(tmp_path / f"a{suffix}", COLOR), []

    def load(picture):
        seen.append(weakref.ref(picture))
        return real(picture)

    with opened(path) as picture:
        kind = type(picture)
    real = kind.load
    monkeypatch.setattr(kind, "load", load)
    del picture
    for _ in range(2):
        corner(path)
        assert seen and not any(reference() for reference in seen)


RUBBISH = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x0c\0\xff" * 9


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_damaged_exif_block_does_not_stop_the_pixels(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    plain = save(tmp_path / f"plain{suffix}", COLOR, **options)
    for block in (RUBBISH, RUBBISH[:9], b"Exif\0\0" + b"\xff" * 70):
        path = save(tmp_path / f"a{suffix}", COLOR, exif=block, **options)
        with quiet_pillow():
            np.testing.assert_array_equal(corner(path), corner(plain))


def test_a_damaged_exif_block_of_a_tiff_file_does_not_stop_the_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x8769] = {33434: (1, 30)}
    path = tmp_path / "a.tif"
    content = Path(save(path, COLOR, exif=exif.tobytes())).read_bytes()
    place = content.index(struct.pack("<HHI", 0x8769, 4, 1)) + 8
    for offset in (0, 3, len(content) - 1, 2**32 - 1):
        damaged = struct.pack("<I", offset)
        path.write_bytes(content[:place] + damaged + content[place + 4 :])
        with quiet_pillow():
            np.testing.assert_array_equal(corner(path), COLOR[-SIZE:, -SIZE:])
