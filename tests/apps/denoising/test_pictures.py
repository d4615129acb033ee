import os
import struct
import tracemalloc
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms, TiffImagePlugin

from aelab.apps.denoising.denoiser import Denoiser, cut
from aelab.apps.denoising.files import (
    MAX_PIXELS,
    Picture,
    PictureError,
    read_picture,
    write_comparison,
    write_picture,
)
from aelab.apps.denoising.jobs import Job, plan_jobs
from aelab.config import Config
from aelab.errors import UsageError
from aelab.models import MODELS, SIZE_MULTIPLES, build_model
from aelab.runs.trained_model import TrainedModel

ORIENTATION = 274
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FULL = {"uint8": 255, "uint16": 65535}


def trained(name="conv", channels=1, size=32):
    """A model whose output depends on its input strongly, far away and at borders."""
    config = Config(model=name)
    model = build_model(config, (size, size, channels))
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        value = variable.numpy() + 0.05 * generator.normal(size=variable.shape)
        variable.assign(value)
    return TrainedModel(config, model, (size, size, channels), 0)


def whole(trained, picture, multiple=4, margin=16):
    """What the model of Keras' own layers makes of a picture [H, W, C], uncut."""
    height, width, _ = picture.shape
    missing = [(margin, margin + -size % multiple) for size in (height, width)]
    padded = np.pad(picture, [*missing, (0, 0)], mode="reflect")
    model = build_model(
        Config(model=trained.config.model, stock_layers="true"), padded.shape
    )
    model.set_weights(trained.model.get_weights())
    output = model(padded[None]).numpy()[0]
    return output[margin : margin + height, margin : margin + width]


def random_picture(*shape, dtype="float32", seed=0):
    """Blots and noise, [H, W, C] in the whole range."""
    values = np.random.default_rng(seed).random(shape, np.float32)
    values = (
        values + (np.add.outer(*map(np.arange, shape[:2])) % 50 > 25)[..., None]
    ) / 2
    if dtype == "float32":
        return values
    return np.round(values * FULL[dtype]).astype(dtype)


def png_file(pixels, extra=b"", size=None):
    """A PNG file by its specification (ISO/IEC 15948), each row unfiltered."""

    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    width, height = size or (width, height)
    header = struct.pack(
        ">IIBBBBB", width, height, 8 * pixels.itemsize, colour, 0, 0, 0
    )
    big_endian = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def tiff_file(pixels, photometric):
    """An uncompressed little-endian TIFF file of 16 bits, by its specification."""
    height, width, channels = pixels.shape
    data = pixels.astype("<u2").tobytes()
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, 16 if channels == 1 else 8),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 16),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    head = struct.pack("<2sHI3HH", b"II", 42, 16 + len(data), 16, 16, 16, 0)
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return head + data + struct.pack("<H", len(entries)) + directory + bytes(4)


# The denoiser


@pytest.mark.parametrize("tile", [36, 48, 64])
@pytest.mark.parametrize("size", [1, 5, 40, 64, 65, 100, 163])
def test_tiles_keep_each_pixel_once(size, tile):
    margin = 16
    extended = -(-size // 4) * 4 + 2 * margin
    tile = min(extended, tile)
    spans = cut(size, extended, tile, margin)
    assert [p for s in spans for p in range(s.first, s.end)] == list(range(size))
    for span in spans:
        assert span.start % 4 == 0
        assert -margin <= span.start <= extended - margin - tile
        assert (
            span.start + margin <= span.first < span.end <= span.start + tile - margin
        )


@pytest.mark.parametrize(
    "size",
    [(1, 1), (1, 9), (3, 7), (28, 28), (64, 64), (65, 30), (30, 131), (131, 97)],
)
def test_tiled_equals_whole(size):
    run = trained()
    picture = random_picture(*size, 1)
    found = Denoiser(run, tile=64).denoise(picture)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, whole(run, picture), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(SIZE_MULTIPLES))
@pytest.mark.parametrize("channels", [1, 3])
def test_tiled_equals_whole_for_each_model(name, channels):
    run = trained(name, channels)
    picture = random_picture(301, 517, channels)
    denoiser = Denoiser(run, tile=256)
    expected = whole(run, picture, denoiser.multiple, denoiser.margin)
    assert np.ptp(expected) > 0.05
    found = denoiser.denoise(picture)
    # A quarter of a 16-bit level: sums of float32 in another order, layer after layer.
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6)


def test_inside_it_is_what_the_model_makes_of_the_picture_alone():
    run = trained(size=64)
    picture = random_picture(64, 64, 1)
    expected = run.model(picture[None]).numpy()[0]
    found = Denoiser(run).denoise(picture)
    inside = (slice(13, -13), slice(13, -13))
    np.testing.assert_allclose(found[inside], expected[inside], rtol=0, atol=1e-6)
    assert abs(found - expected).max() > 1e-3


def test_what_conv_asks_for():
    denoiser = Denoiser(trained())
    assert denoiser.multiple == 4
    # The leftmost pixel that pixel 2 depends on: 1 -> half 0, up -1 -> quarter -1, -2
    # -> half -4, -5 -> pixels -10, -11. That is 13 away, and for no pixel is it more.
    assert denoiser.margin == 16


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(SIZE_MULTIPLES)))
def test_a_model_of_one_size_is_refused(name):
    run = trained(name, size=28)
    with pytest.raises(UsageError, match=rf"--model={name}.* 28 x 28 pixels alone"):
        Denoiser(run)


def test_two_channels_are_refused():
    with pytest.raises(UsageError, match="2 channels"):
        Denoiser(trained(channels=2))


def test_a_model_that_sees_everything_is_refused(monkeypatch):
    def build(config, image_shape):
        images = keras.Input(image_shape)
        mean = keras.layers.GlobalAveragePooling2D(keepdims=True)(images)
        output = keras.layers.Conv2D(1, 1, activation="sigmoid")(images + mean)
        return keras.Model(images, output)

    monkeypatch.setitem(MODELS, "conv", build)
    with pytest.raises(UsageError, match="tiles of 1024 pixels"):
        Denoiser(trained())


@pytest.mark.parametrize(
    ("model_channels", "channels", "dtype"),
    [
        *((1, 1, "uint8"), (1, 2, "uint16"), (1, 3, "uint16"), (1, 4, "uint8")),
        *((3, 1, "uint16"), (3, 2, "uint8"), (3, 3, "uint8"), (3, 4, "uint16")),
    ],
)
def test_modes(model_channels, channels, dtype):
    run = trained(channels=model_channels)
    picture = random_picture(70, 45, channels, dtype=dtype)
    before = picture.copy()
    found = Denoiser(run, tile=64).denoise(picture)
    assert (found.dtype, found.shape) == (picture.dtype, picture.shape)
    np.testing.assert_array_equal(picture, before)
    colours = 1 if channels < 3 else 3
    np.testing.assert_array_equal(found[..., colours:], picture[..., colours:])
    values = np.float32(picture[..., :colours] / FULL[dtype])
    if model_channels == 1:
        alone = [whole(run, values[..., c : c + 1]) for c in range(colours)]
        expected = np.concatenate(alone, axis=2)
    else:
        same = np.broadcast_to(values, (70, 45, 3))
        expected = whole(run, same)
        expected = expected.mean(axis=2, keepdims=True) if colours == 1 else expected
    levels = found[..., :colours] - expected * FULL[dtype]
    assert abs(levels).max() <= 0.5 + 1e-6 * FULL[dtype]


def test_sixteen_bits_are_not_eight():
    picture = random_picture(40, 40, 1, dtype="uint16")
    found = Denoiser(trained()).denoise(picture)
    assert len(np.unique(found % 257)) > 100  # all 0 if they came from 8 bits


def test_a_16_bit_run_computes_in_float32():
    exact = trained()
    config = Config(precision="mixed_bfloat16")
    model = build_model(config, exact.image_shape)
    model.set_weights(exact.model.get_weights())
    picture = random_picture(40, 40, 1)
    found = Denoiser(TrainedModel(config, model, exact.image_shape, 0)).denoise(picture)
    np.testing.assert_array_equal(found, Denoiser(exact).denoise(picture))


def test_the_model_is_compiled_once_for_all_sizes():
    denoiser = Denoiser(trained())
    for size in (4, 8, 12):
        denoiser.denoise(random_picture(size, 4, 1))
    assert denoiser._restore_values.experimental_get_tracing_count() == 1


# Files


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png(channels, dtype, tmp_path):
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
def test_kinds_of_png(mode, transparency, expected, tmp_path):
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
def test_formats_without_loss(suffix, mode, tmp_path):
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


def test_tiff_of_16_bits(tmp_path):
    pixels = random_picture(9, 13, 1, dtype="uint16")
    (tmp_path / "a.tif").write_bytes(tiff_file(pixels, photometric=1))
    picture = read_picture(str(tmp_path / "a.tif"))
    np.testing.assert_array_equal(picture.pixels, pixels)
    write_picture(str(tmp_path / "b.tif"), picture)
    with Image.open(tmp_path / "b.tif") as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), pixels[..., 0])


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


def test_png_keeps_colour_space_and_texts_and_drops_what_would_be_wrong(tmp_path):
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


def test_tiff_keeps_the_profile_and_stands_upright(tmp_path):
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


def test_the_content_counts_and_not_the_name(tmp_path):
    image = Image.fromarray(random_picture(8, 8, 3, dtype="uint8"))
    image.save(tmp_path / "a.png", "JPEG")
    picture = read_picture(str(tmp_path / "a.png"))
    write_picture(str(tmp_path / "b.png"), picture)
    with Image.open(tmp_path / "b.png") as image:
        assert image.format == "JPEG"


def test_a_camera_s_jpeg_with_a_preview(tmp_path):
    images = [Image.fromarray(random_picture(n, n, 3, dtype="uint8")) for n in (32, 8)]
    images[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=images[1:])
    picture = read_picture(str(tmp_path / "a.jpg"))
    assert (picture.format, picture.pixels.shape) == ("JPEG", (32, 32, 3))


def test_a_comparison_is_before_and_after(tmp_path):
    before = random_picture(9, 13, 4, dtype="uint16")
    after = Picture(before[::-1], "PNG", {}, b"")
    write_comparison(str(tmp_path / "c.png"), before, after)
    found = read_picture(str(tmp_path / "c.png")).pixels
    np.testing.assert_array_equal(found[:, :13], before)
    np.testing.assert_array_equal(found[:, 13:], after.pixels)


def test_a_comparison_needs_next_to_no_memory_beside_its_pixels(tmp_path):
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
def test_png_files_are_about_as_small_as_those_of_libpng(channels, dtype, tmp_path):
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
    """Writes a colour TIFF file of which both resolutions are that fraction."""
    image = Image.fromarray(random_picture(8, 8, 3, dtype="uint8"))
    image.save(path, dpi=(5, 7))
    content = path.read_bytes()
    for dpi in (5, 7):
        fraction = struct.pack("<II", dpi, 1)
        assert content.count(fraction) == 1
        content = content.replace(fraction, struct.pack("<II", numerator, denominator))
    path.write_bytes(content)


@pytest.mark.parametrize("fraction", [(0, 0), (1, 0), (2**32 - 1, 1), (0, 1)])
def test_a_broken_resolution_is_dropped(fraction, tmp_path):
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


def test_a_broken_resolution_in_the_exif_of_a_jpeg_is_dropped(tmp_path):
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
        ("gif", "P", "no PNG, JPEG, WebP, BMP or TIFF"),
        ("jpg", "CMYK", "colours are CMYK"),
        ("tif", "F", "32 bits"),
        ("tif", "LAB", "colours are LAB"),
    ],
)
def test_kinds_of_files_that_are_refused(suffix, mode, message, tmp_path):
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


@pytest.mark.parametrize("photometric", [0, 2])
def test_tiff_files_of_which_bits_would_be_lost_are_refused(photometric, tmp_path):
    pixels = random_picture(9, 13, 3 if photometric == 2 else 1, dtype="uint16")
    (tmp_path / "a.tif").write_bytes(tiff_file(pixels, photometric))
    with pytest.raises(PictureError, match="16 bits a channel"):
        read_picture(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("suffix", ["tif", "webp", "png"])
def test_several_pictures_in_a_file_are_refused(suffix, tmp_path):
    images = [
        Image.fromarray(random_picture(8, 8, 3, dtype="uint8", seed=seed))
        for seed in (0, 1)
    ]
    images[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=images[1:])
    with pytest.raises(PictureError, match="holds 2 pictures"):
        read_picture(str(tmp_path / f"a.{suffix}"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif"])
@pytest.mark.parametrize("part", [0, 0.02, 0.6])
def test_cut_off_files_are_refused(suffix, part, tmp_path):
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


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(PictureError, match="No such file"):
        read_picture(str(tmp_path / "a.png"))


@pytest.mark.parametrize("size", [(100_000, 100_000), (16_000, 16_000)])
def test_an_absurd_size_is_refused_before_memory_is_asked_for(size, tmp_path):
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


def test_pillow_s_own_limit_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for suffix in ("png", "jpg", "tif", "webp", "bmp"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(random_picture(50, 40, 3, dtype="uint8")).save(path)
        assert read_picture(str(path)).pixels.shape == (50, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_file_that_cannot_be_written_leaves_what_was_there(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(random_picture(8, 8, 3, dtype="uint8")).save(path)
    picture = read_picture(str(path))
    folder = tmp_path / f"b.{suffix}"
    folder.mkdir()
    with pytest.raises(OSError, match=rf"b\.{suffix}"):
        write_picture(str(folder), picture)
    assert sorted(os.listdir(tmp_path)) == [f"a.{suffix}", f"b.{suffix}"]


# What becomes what


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_files_and_folders(tmp_path):
    names = ["b.PNG", "a.jpeg", "sub/deep/a.tif", "sub/a.webp", "x.txt", ".c.png"]
    names += [".git/d.png", "out/e.png"]
    touch(*(tmp_path / "in" / name for name in names), tmp_path / "other.dat")
    output = str(tmp_path / "in" / "out")
    inputs = [str(tmp_path / "in"), str(tmp_path / "other.dat")]
    expected = ["a.jpeg", "b.PNG", "sub/a.webp", "sub/deep/a.tif"]
    assert plan_jobs(inputs, output) == [
        *(Job(f"{inputs[0]}/{name}", f"{output}/{name}", "") for name in expected),
        Job(inputs[1], f"{output}/other.dat", ""),
    ]
    assert [job.comparison for job in plan_jobs(inputs, output, compare=True)] == [
        f"{output}/{stem}-compare.png"
        for stem in ("a", "b", "sub/a", "sub/deep/a", "other")
    ]
    assert os.listdir(output) == ["e.png"]


@pytest.mark.parametrize(
    ("inputs", "compare", "written"),
    [
        (["x/a.png", "y/a.png"], False, "out/a.png"),
        (["x", "y"], False, "out/a.png"),
        (["x", "x/../x/a.png"], False, "out/a.png"),
        (["x/a.png", "z/a.jpg"], True, "out/a-compare.png"),
        (["x/a.png", "z/a-compare.png"], True, "out/a-compare.png"),
        (["x/a.png", "z/.tmp-a.png"], False, "out/.tmp-a.png"),
    ],
)
def test_two_files_of_one_name_are_refused(inputs, compare, written, tmp_path):
    touch(*(tmp_path / name for name in ("x/a.png", "y/a.png", "z/a.jpg")))
    touch(tmp_path / "z" / "a-compare.png", tmp_path / "z" / ".tmp-a.png")
    inputs = [str(tmp_path / name) for name in inputs]
    with pytest.raises(UsageError, match="would both be written") as caught:
        plan_jobs(inputs, str(tmp_path / "out"), compare)
    assert written in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["x", "y", "z"]


@pytest.mark.parametrize(
    "names", [["x/a.png"] * 2, ["x", "x/a.png"], ["x", "x", "x/a.png"]]
)
def test_what_is_given_twice_counts_once(names, tmp_path):
    touch(tmp_path / "x" / "a.png")
    inputs = [str(tmp_path / name) for name in names]
    (job,) = plan_jobs(inputs, str(tmp_path / "out"), compare=True)
    assert job.source == str(tmp_path / "x" / "a.png")


def test_links_that_lead_nowhere_are_pictures_that_fail(tmp_path):
    touch(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "none.png")
    os.mkfifo(tmp_path / "in" / "c.png")
    jobs = plan_jobs([str(tmp_path / "in")], str(tmp_path / "out"))
    assert [os.path.basename(job.source) for job in jobs] == ["a.png", "b.png"]
    with pytest.raises(PictureError, match="No such file"):
        read_picture(jobs[1].source)


def test_pictures_that_cannot_be_denoised_are_told_in_a_line(tmp_path, capsys):
    folder = tmp_path / "in"
    touch(*(folder / name for name in ("a.png", "b.GIF", "sub/c.heic", "d.txt")))
    touch(folder / ".e.gif")
    (job,) = plan_jobs([str(folder)], str(tmp_path / "out"))
    assert job.source == str(folder / "a.png")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: INPUT {folder}: 2 pictures are passed by, as ")
    assert str(folder / "b.GIF") in line and ".png, .jpg" in line


@pytest.mark.parametrize("aside", ["", ".tmp-"])
@pytest.mark.parametrize(
    "how", ["same", "folder_link", "link", "hard_link", "backward"]
)
def test_no_input_is_replaced(how, aside, tmp_path):
    source, output = tmp_path / "in" / "a.png", tmp_path / "out"
    touch(source)
    if how == "same":
        output = tmp_path / "in" / ".." / "in"
    elif how == "folder_link":
        output.symlink_to(tmp_path / "in")
    else:
        output.mkdir()
    target = output / f"{aside}a.png"
    if how == "link":
        target.symlink_to(source)
    elif how == "hard_link":
        target.hardlink_to(source)
    elif how == "backward":
        source.unlink()
        touch(target)
        source.symlink_to(target)
    with pytest.raises(UsageError, match=r"--output=.* would replace the input"):
        plan_jobs([str(source)], str(output))


def test_an_input_that_another_one_would_replace(tmp_path):
    touch(tmp_path / "in" / "a.png", tmp_path / "out" / "a.png")
    inputs = [str(tmp_path / "in"), str(tmp_path / "out" / "a.png")]
    with pytest.raises(UsageError, match="would"):
        plan_jobs(inputs, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("given", "message"),
    [("none.png", "none.png is no file and no folder"), ("empty", "has no pictures")],
)
def test_bad_inputs(given, message, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        plan_jobs([str(tmp_path / given)], str(tmp_path / "out"))


def test_an_output_that_is_a_file(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "out")
    with pytest.raises(UsageError, match="out is a file"):
        plan_jobs([str(tmp_path / "a.png")], str(tmp_path / "out"))
