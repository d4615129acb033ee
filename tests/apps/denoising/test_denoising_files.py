import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image, ImageCms, TiffImagePlugin
from sample_pictures import FULL, png_file, random_picture, tiff_file

from aelab.apps.denoising.files import (
    Picture,
    PictureError,
    read_picture,
    write_comparison,
    write_picture,
)
from aelab.data.image_files import MAX_PIXELS

ORIENTATION = 274
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_round_trip(channels, dtype, tmp_path):
    pixels = random_picture(9, 13, channels, dtype=dtype)
    path = tmp_path / "a.png"
    path.write_bytes(png_file(pixels))
    picture = read_picture(str(path))
    assert (picture.format, picture.pixels.dtype) == ("PNG", dtype)
    np.testing.assert_array_equal(picture.pixels, pixels)
    write_picture(str(tmp_path / "b.png"), picture._replace(pixels=pixels[::-1]))
    again = read_picture(str(tmp_path / "b.png"))
    assert again.pixels.dtype == dtype
    np.testing.assert_array_equal(again.pixels, pixels[::-1])
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("mode", "transparency", "expected"),
    [
        ("1", None, "L"),
        ("L", 7, "LA"),
        ("P", None, "RGB"),
        ("P", 7, "RGBA"),
        ("RGB", (30, 60, 90), "RGBA"),
    ],
)
def test_all_kinds_of_png_are_read(mode, transparency, expected, tmp_path):
    pixels = random_picture(20, 11, 3, dtype="uint8")
    pixels[:5] = 30, 60, 90
    pixels[5:8] = 7
    image = Image.fromarray(pixels)
    image = image.quantize(20) if mode == "P" else image.convert(mode)
    arguments = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **arguments)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode
        wanted = np.asarray(image.convert(expected))
    found = read_picture(str(tmp_path / "a.png")).pixels
    np.testing.assert_array_equal(found, wanted.reshape(found.shape))
    if transparency is not None:
        assert set(np.unique(found[..., -1])) == {0, 255}


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *(("bmp", mode) for mode in ("L", "RGB")),
        *(("tif", mode) for mode in ("L", "LA", "RGB", "RGBA")),
        *(("webp", mode) for mode in ("L", "RGB", "RGBA")),
    ],
)
def test_lossless_formats_round_trip(suffix, mode, tmp_path):
    channels = len(mode)
    pixels = random_picture(9, 13, channels, dtype="uint8")
    source, target = (str(tmp_path / f"{name}.{suffix}") for name in "ab")
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    image.save(
        source, **({"lossless": True, "exact": True} if suffix == "webp" else {})
    )
    picture = read_picture(source)
    if (suffix, mode) == ("webp", "L"):  # WebP has no gray
        pixels = np.repeat(pixels, 3, axis=2)
    np.testing.assert_array_equal(picture.pixels, pixels)
    write_picture(target, picture._replace(pixels=pixels[::-1]))
    with Image.open(target) as image, Image.open(source) as before:
        assert image.format == before.format == picture.format
        np.testing.assert_array_equal(
            np.asarray(image).reshape(pixels.shape), pixels[::-1]
        )


def test_16_bit_tiff_round_trip(tmp_path):
    pixels = random_picture(9, 13, 1, dtype="uint16")
    (tmp_path / "a.tif").write_bytes(tiff_file(pixels, photometric=1))
    picture = read_picture(str(tmp_path / "a.tif"))
    np.testing.assert_array_equal(picture.pixels, pixels)
    write_picture(str(tmp_path / "b.tif"), picture)
    with Image.open(tmp_path / "b.tif") as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), pixels[..., 0])


@pytest.mark.parametrize(
    ("mode", "transparency", "expected"),
    [("L", None, "L"), ("L", 7, "LA"), ("P", None, "RGB"), ("P", 7, "RGBA")],
)
def test_gif_becomes_png(mode, transparency, expected, tmp_path):
    if mode == "P":
        image = Image.fromarray(random_picture(20, 11, 3, dtype="uint8")).quantize(20)
    else:  # read as gray if all levels are there
        image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.gif", **options)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.mode == mode
        wanted = np.asarray(image.convert("RGBA").convert(expected))
    picture = read_picture(str(tmp_path / "a.gif"))
    assert picture.format == "PNG" and picture.pixels.shape[2] == len(expected)
    np.testing.assert_array_equal(picture.pixels, wanted.reshape(picture.pixels.shape))
    if transparency is not None:
        assert set(np.unique(picture.pixels[..., -1])) == {0, 255}
    write_picture(str(tmp_path / "b.png"), picture)
    again = read_picture(str(tmp_path / "b.png"))
    np.testing.assert_array_equal(again.pixels, picture.pixels)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_is_written_at_high_quality(mode, tmp_path):
    pixels = random_picture(64, 64, len(mode), dtype="uint8")
    Image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(tmp_path / "a.jpg")
    picture = read_picture(str(tmp_path / "a.jpg"))
    write_picture(str(tmp_path / "b.jpg"), picture)
    Image.open(tmp_path / "a.jpg").save(
        tmp_path / "c.jpg", quality=95, subsampling="4:4:4"
    )
    assert (tmp_path / "b.jpg").read_bytes() == (tmp_path / "c.jpg").read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_metadata_is_kept(suffix, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    source, target = (str(tmp_path / f"{name}.{suffix}") for name in "ab")
    image = Image.fromarray(random_picture(20, 31, 3, dtype="uint8"))
    image.save(source, exif=exif, icc_profile=ICC, dpi=(300, 300))
    picture = read_picture(source)
    assert picture.pixels.shape == (20, 31, 3)
    write_picture(target, picture)
    write_comparison(str(tmp_path / "c.png"), picture.pixels, picture)
    for path in (target, tmp_path / "c.png"):
        with Image.open(path) as image:
            assert image.getexif()[ORIENTATION] == 6
            assert image.info["icc_profile"] == ICC
            if suffix != "webp":
                assert np.round(image.info["dpi"]).tolist() == [300, 300]


def test_png_keeps_color_space_and_texts_and_drops_sbit(tmp_path):
    chunks = b""
    for kind, content in (
        (b"gAMA", struct.pack(">I", 100000)),
        (b"sBIT", b"\5"),
        (b"tEXt", b"Author\0me"),
    ):
        crc = struct.pack(">I", zlib.crc32(kind + content))
        chunks += struct.pack(">I", len(content)) + kind + content + crc
    pixels = random_picture(8, 8, 1, dtype="uint8")
    (tmp_path / "a.png").write_bytes(png_file(pixels, chunks))
    write_picture(str(tmp_path / "b.png"), read_picture(str(tmp_path / "a.png")))
    with Image.open(tmp_path / "b.png") as image:
        assert image.info["gamma"] == 1.0
        assert image.text == {"Author": "me"}
        np.testing.assert_array_equal(np.asarray(image), pixels[..., 0])
    assert b"sBIT" not in (tmp_path / "b.png").read_bytes()


def test_tiff_keeps_the_profile_and_is_turned_upright(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ORIENTATION] = 6
    pixels = random_picture(20, 31, 3, dtype="uint8")
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.tif", tiffinfo=tags, icc_profile=ICC, dpi=(300, 300))
    write_picture(str(tmp_path / "b.tif"), read_picture(str(tmp_path / "a.tif")))
    with Image.open(tmp_path / "b.tif") as image:
        assert image.info["icc_profile"] == ICC
        assert image.info["dpi"] == (300, 300)
        assert image.getexif().get(ORIENTATION, 1) == 1
        np.testing.assert_array_equal(np.asarray(image), np.rot90(pixels, -1))


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif"])
def test_xmp_is_kept(suffix, tmp_path):
    source, target = (str(tmp_path / f"{name}.{suffix}") for name in "ab")
    image = Image.fromarray(random_picture(20, 31, 3, dtype="uint8"))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700] = b"<x:xmpmeta/>"
    image.save(
        source, **({"tiffinfo": tags} if suffix == "tif" else {"xmp": tags[700]})
    )
    picture = read_picture(source)
    write_picture(target, picture)
    write_comparison(str(tmp_path / "c.png"), picture.pixels, picture)
    for path in (target, tmp_path / "c.png"):
        with Image.open(path) as image:
            assert image.info["xmp"] == b"<x:xmpmeta/>"


@pytest.mark.parametrize("block", [{}, {36867: "2020:01:02 03:04:05"}])
def test_descriptive_tags_of_tiff_are_kept(block, tmp_path):
    exif = Image.Exif()
    exif[271] = "Maker"
    if block:
        exif[0x8769] = block
    source, target = (str(tmp_path / f"{name}.tif") for name in "ab")
    image = Image.fromarray(random_picture(20, 31, 3, dtype="uint8"))
    image.save(source, exif=exif.tobytes())
    write_picture(target, read_picture(source))
    with Image.open(target) as image:
        found = image.getexif()
        assert found[271] == "Maker"
        assert found.get_ifd(0x8769) == block
        assert image.info["compression"] == ("raw" if block else "tiff_adobe_deflate")
    np.testing.assert_array_equal(
        read_picture(target).pixels, read_picture(source).pixels
    )


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png"])
def test_damaged_exif_does_not_stop_the_pixels(suffix, tmp_path):
    source, target = (str(tmp_path / f"{name}.{suffix}") for name in "ab")
    image = Image.fromarray(random_picture(20, 31, 3, dtype="uint8"))
    image.save(source, exif=b"Exif\0\0" + b"\xff" * 70)
    picture = read_picture(source)
    write_picture(target, picture)
    write_comparison(str(tmp_path / "c.png"), picture.pixels, picture)
    assert read_picture(target).pixels.shape == (20, 31, 3)


def test_large_metadata_of_png_is_kept_and_damaged_is_dropped(tmp_path):
    profile, chunks = b"name\0\0" + zlib.compress(os.urandom(9_000_000), 0), b""
    for kind, content, error in ((b"iCCP", profile, 0), (b"tEXt", b"a\0b", 1)):
        crc = struct.pack(">I", zlib.crc32(kind + content) ^ error)
        chunks += struct.pack(">I", len(content)) + kind + content + crc
    pixels = random_picture(8, 8, 1, dtype="uint8")
    (tmp_path / "a.png").write_bytes(png_file(pixels, chunks))
    picture = read_picture(str(tmp_path / "a.png"))
    np.testing.assert_array_equal(picture.pixels, pixels)
    write_picture(str(tmp_path / "b.png"), picture)
    content = (tmp_path / "b.png").read_bytes()
    assert profile in content and b"tEXt" not in content


def test_the_content_determines_the_format(tmp_path):
    image = Image.fromarray(random_picture(8, 8, 3, dtype="uint8"))
    image.save(tmp_path / "a.png", "JPEG")
    picture = read_picture(str(tmp_path / "a.png"))
    write_picture(str(tmp_path / "b.png"), picture)
    with Image.open(tmp_path / "b.png") as image:
        assert image.format == "JPEG"


def test_the_preview_in_a_jpeg_of_a_camera_is_ignored(tmp_path):
    images = [Image.fromarray(random_picture(n, n, 3, dtype="uint8")) for n in (32, 8)]
    images[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=images[1:])
    picture = read_picture(str(tmp_path / "a.jpg"))
    assert (picture.format, picture.pixels.shape) == ("JPEG", (32, 32, 3))


def test_a_comparison_shows_before_and_after(tmp_path):
    before = random_picture(9, 13, 4, dtype="uint16")
    after = Picture(before[::-1], "PNG", {}, b"")
    write_comparison(str(tmp_path / "c.png"), before, after)
    found = read_picture(str(tmp_path / "c.png")).pixels
    np.testing.assert_array_equal(found[:, :13], before)
    np.testing.assert_array_equal(found[:, 13:], after.pixels)


def test_writing_a_comparison_does_not_copy_the_pixels(tmp_path):
    before = random_picture(2000, 1000, 3, dtype="uint16")
    after = Picture(before[::-1], "PNG", {}, b"")
    tracemalloc.start()
    try:
        write_comparison(str(tmp_path / "c.png"), before, after)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < before.nbytes
    found = read_picture(str(tmp_path / "c.png")).pixels
    np.testing.assert_array_equal(found[:, 1000:], after.pixels)


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (3, "uint16")])
def test_png_files_are_about_as_small_as_from_libpng(channels, dtype, tmp_path):
    rows, columns = np.mgrid[:300, :400] / 400
    waves = np.sin(9 * rows * columns + np.arange(channels)[:, None, None])
    waves = np.moveaxis(waves, 0, 2) / 2 + 0.5
    noise = np.random.default_rng(0).normal(scale=0.01, size=waves.shape)
    pixels = np.clip((waves + noise) * FULL[dtype], 0, FULL[dtype]).astype(dtype)
    picture = Picture(pixels, "PNG", {}, b"")
    write_picture(str(tmp_path / "a.png"), picture)
    expected = len(tf.io.encode_png(pixels).numpy())
    assert os.path.getsize(tmp_path / "a.png") < 1.1 * expected


def tiff_with_resolution(path, numerator, denominator):
    """Writes a color TIFF file whose two resolutions are that fraction."""
    image = Image.fromarray(random_picture(8, 8, 3, dtype="uint8"))
    image.save(path, dpi=(5, 7))
    content = path.read_bytes()
    for dpi in (5, 7):
        fraction = struct.pack("<II", dpi, 1)
        assert content.count(fraction) == 1
        content = content.replace(fraction, struct.pack("<II", numerator, denominator))
    path.write_bytes(content)


@pytest.mark.parametrize("fraction", [(0, 0), (1, 0), (2**32 - 1, 1), (0, 1)])
def test_an_invalid_resolution_is_dropped(fraction, tmp_path):
    tiff_with_resolution(tmp_path / "a.tif", *fraction)
    picture = read_picture(str(tmp_path / "a.tif"))
    assert "dpi" not in picture.metadata
    for name in ("b.tif", "c.png"):
        path = str(tmp_path / name)
        if name == "b.tif":
            write_picture(path, picture)
        else:
            write_comparison(path, picture.pixels, picture)
        with Image.open(path) as image:
            found = np.asarray(image)[:, :8]
            np.testing.assert_array_equal(found, picture.pixels)


def test_an_invalid_resolution_in_jpeg_exif_is_dropped(tmp_path):
    exif = Image.Exif()
    exif[282] = exif[283] = 1e9
    exif[296] = 2
    image = Image.fromarray(random_picture(16, 16, 3, dtype="uint8"))
    image.save(tmp_path / "a.jpg", exif=exif)
    picture = read_picture(str(tmp_path / "a.jpg"))
    assert "dpi" not in picture.metadata
    write_picture(str(tmp_path / "b.jpg"), picture)
    write_comparison(str(tmp_path / "c.png"), picture.pixels, picture)
    assert read_picture(str(tmp_path / "b.jpg")).metadata["exif"]


@pytest.mark.parametrize(
    ("suffix", "mode", "message"),
    [
        ("ppm", "RGB", "not a picture in the format BMP, GIF, JPEG, PNG, TIFF, WEBP"),
        ("jpg", "CMYK", "colors are CMYK"),
        ("tif", "F", "32 bits"),
        ("tif", "LAB", "colors are LAB"),
    ],
)
def test_other_formats_and_colors_are_refused(suffix, mode, message, tmp_path):
    Image.new(mode, (8, 8)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(PictureError, match=message):
        read_picture(str(tmp_path / f"a.{suffix}"))


def test_bmp_with_alpha_is_refused(tmp_path):
    masks = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, 8, 8, 1, 32, 3, 256, 0, 0, 0, 0)
    info += struct.pack("<4I", *masks) + bytes(52)
    head = struct.pack("<2sIHHI", b"BM", 14 + 108 + 256, 0, 0, 14 + 108)
    (tmp_path / "a.bmp").write_bytes(head + info + bytes(range(256)))
    with pytest.raises(PictureError, match="BMP file with alpha"):
        read_picture(str(tmp_path / "a.bmp"))


def test_a_tiff_file_of_16_bits_with_white_as_0_is_refused(tmp_path):
    """Pillow does not turn its values round."""
    pixels = random_picture(9, 13, 1, dtype="uint16")
    (tmp_path / "a.tif").write_bytes(tiff_file(pixels, photometric=0))
    with pytest.raises(PictureError, match="16 bits per channel"):
        read_picture(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}])
def test_16_bits_of_color_in_tiff_are_kept(channels, options, tmp_path):
    pixels = random_picture(9, 13, channels, dtype="uint16")
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    path, copy = tmp_path / "a.tif", tmp_path / "b.tif"
    settings = {"resolution": (300, 300), "resolutionunit": "INCH"}
    tifffile.imwrite(path, pixels, photometric="rgb", **extra, **options, **settings)
    picture = read_picture(str(path))
    assert picture.format == "TIFF" and picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, pixels)
    write_picture(str(copy), picture)
    np.testing.assert_array_equal(tifffile.imread(copy), pixels)
    np.testing.assert_array_equal(read_picture(str(copy)).pixels, pixels)
    with Image.open(copy) as written:
        assert written.info["dpi"] == (300, 300)


@pytest.mark.parametrize(("dtype", "unit"), [("uint8", "um"), ("uint16", "µm")])
def test_a_color_picture_in_tiff_keeps_its_description(dtype, unit, tmp_path):
    pixels = random_picture(9, 13, 3, dtype=dtype)
    texts = {270: f"cells, 2 {unit}".encode(), 271: b"Maker", 315: b"me"}
    tags = [(tag, "s", 0, text, True) for tag, text in texts.items()]
    xmp = b'<x:xmpmeta xmlns:tiff="t" tiff:Orientation="6" tiff:Make="M"/>'
    tags += [(700, "B", len(xmp), xmp, True), (ORIENTATION, "H", 1, 6, True)]
    path, copy = tmp_path / "a.tif", tmp_path / "b.tif"
    options = {"metadata": None, "software": False, "extratags": tags}
    tifffile.imwrite(path, pixels, photometric="rgb", **options)
    write_picture(str(copy), read_picture(str(path)))
    np.testing.assert_array_equal(tifffile.imread(copy), np.rot90(pixels, -1))
    with Image.open(copy) as written:
        found = written.getexif()
        assert {tag: found[tag].encode("latin-1") for tag in texts} == texts
        assert found.get(ORIENTATION, 1) == 1
        assert b"Make" in written.info["xmp"]
        assert b"Orientation" not in written.info["xmp"]


@pytest.mark.parametrize("suffix", ["tif", "webp", "png", "gif"])
def test_a_file_with_several_pictures_is_refused(suffix, tmp_path):
    images = [
        Image.fromarray(random_picture(8, 8, 3, dtype="uint8", seed=seed))
        for seed in (0, 1)
    ]
    images[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=images[1:])
    with pytest.raises(PictureError, match=r"holds 2 (pictures|pages)"):
        read_picture(str(tmp_path / f"a.{suffix}"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif", "gif"])
@pytest.mark.parametrize("part", [0, 0.02, 0.6])
def test_truncated_files_are_refused(suffix, part, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(random_picture(90, 80, 3, dtype="uint8")).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(PictureError) as caught:
        read_picture(str(path))
    assert str(caught.value)


def test_damaged_png_data_is_refused(tmp_path):
    content = bytearray(png_file(random_picture(90, 80, 3, dtype="uint16")))
    content[len(content) // 2] ^= 0x10
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(PictureError, match="damaged"):
        read_picture(str(tmp_path / "a.png"))


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(PictureError, match="No such file"):
        read_picture(str(tmp_path / "a.png"))


@pytest.mark.parametrize("size", [(100_000, 100_000), (16_000, 16_000)])
def test_a_giant_size_is_refused_before_memory_is_allocated(size, tmp_path):
    assert np.prod(size) > MAX_PIXELS
    pixels = random_picture(8, 8, 1, dtype="uint8")
    (tmp_path / "a.png").write_bytes(png_file(pixels, size=size))
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = struct.pack("<II", *size)
    (tmp_path / "a.bmp").write_bytes(content)
    for name in ("a.png", "a.bmp"):
        with pytest.raises(PictureError, match=rf"{size[0]:,} x {size[1]:,} pixels"):
            read_picture(str(tmp_path / name))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_failed_write_leaves_no_files(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(random_picture(8, 8, 3, dtype="uint8")).save(path)
    picture = read_picture(str(path))
    folder = tmp_path / f"b.{suffix}"
    folder.mkdir()
    with pytest.raises(OSError, match=rf"b\.{suffix}"):
        write_picture(str(folder), picture)
    assert sorted(os.listdir(tmp_path)) == [f"a.{suffix}", f"b.{suffix}"]
