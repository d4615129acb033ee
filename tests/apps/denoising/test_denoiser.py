import dataclasses
import functools

import keras
import numpy as np
import pytest
from registries import BOUNDED, SIZE_MULTIPLES
from sample_pictures import FULL, random_picture

from aelab.apps.denoising.denoiser import Denoiser
from aelab.config import Config
from aelab.config.registry import MODELS
from aelab.errors import UsageError
from aelab.models import Autoencoder, build_model
from aelab.runs.trained_model import TrainedModel


@functools.cache
def trained(name="conv", channels=1, size=32, **values):
    """A model whose output depends strongly on distant pixels and on borders."""
    config = Config(model=name, **values)
    model = build_model(config, (size, size, channels))
    generator = np.random.default_rng(0)
    change = 0.05 if name in BOUNDED else 0.003  # deep, without a sigmoid at its end
    for variable in model.variables:
        value = variable.numpy() + change * generator.normal(size=variable.shape)
        variable.assign(value)
    return TrainedModel(config, model, (size, size, channels), 0)


@functools.cache
def denoiser_of(run, tile=64):
    return Denoiser(run, tile)


@functools.cache
def stock_model(trained):
    """The trained model for any size, built from stock Keras layers."""
    shape = (None, None, trained.image_shape[2])
    config = dataclasses.replace(trained.config, stock_layers=True)
    model = build_model(config, shape).model
    model.set_weights(trained.autoencoder.model.get_weights())
    return model


def whole(trained, picture, multiple=4, margin=16):
    """The output of the stock model for a picture [H, W, C] in one piece."""
    height, width, _ = picture.shape
    missing = [(margin, margin + -size % multiple) for size in (height, width)]
    padded = np.pad(picture, [*missing, (0, 0)], mode="reflect")
    output = stock_model(trained)(padded[None]).numpy()[0]
    return output[margin : margin + height, margin : margin + width]


@pytest.mark.parametrize(
    "size",
    [(1, 1), (1, 9), (3, 7), (28, 28), (64, 64), (65, 30), (30, 131), (131, 97)],
)
def test_tiles_give_the_output_for_the_whole_picture(size):
    run = trained()
    picture = random_picture(*size, 1)
    found = denoiser_of(run).denoise(picture)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, whole(run, picture), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(SIZE_MULTIPLES))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_model_gives_the_same_in_tiles(name, channels):
    run = trained(name, channels)
    picture = random_picture(301, 517, channels)
    denoiser = Denoiser(run, tile=256)
    expected = whole(run, picture, denoiser.multiple, denoiser.margin)
    assert np.ptp(expected) > 0.05
    found = denoiser.denoise(picture)
    # A quarter of a 16-bit level: sums of float32 in another order, layer after layer.
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_that_estimates_the_level_gives_the_same_in_tiles(channels):
    """The level at a pixel depends on its surroundings."""
    run = trained("resunet", channels, noise_stddev_max=0.2)
    generator = np.random.default_rng(0)
    picture = 0.5 + 0.1 * generator.normal(size=(301, 517, channels))
    picture = picture.astype(np.float32)
    picture[:, 200:300] = 0.5  # where the level changes
    denoiser = Denoiser(run, tile=320)
    assert denoiser.margin == 128
    found = denoiser.denoise(picture)
    expected = whole(run, picture, denoiser.multiple, denoiser.margin)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_padding_changes_only_pixels_near_the_border():
    run = trained(size=64)
    picture = random_picture(64, 64, 1)
    expected = run.autoencoder.model(picture[None]).numpy()[0]
    found = denoiser_of(run, 1024).denoise(picture)
    inside = (slice(13, -13), slice(13, -13))
    np.testing.assert_allclose(found[inside], expected[inside], rtol=0, atol=1e-6)
    assert abs(found - expected).max() > 1e-3


def test_conv_has_the_reach_of_its_layers():
    denoiser = denoiser_of(trained())
    assert denoiser.multiple == 4
    # The leftmost pixel that pixel 2 depends on: 1 -> half 0, up -1 -> quarter -1, -2
    # -> half -4, -5 -> pixels -10, -11. That is the largest distance, 13.
    assert denoiser.margin == 16


@pytest.mark.parametrize("blocks", [1, 2, 3, 7])
def test_unet_has_the_reach_of_its_layers(blocks):
    """12 pixels for each block on the way down and as many on the way up, and 7."""
    config, shape = Config(model="unet", filters=2, blocks=blocks), (32, 32, 1)
    model = TrainedModel(config, build_model(config, shape), shape, 0)
    assert Denoiser(model).margin == 24 * blocks + 8


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(SIZE_MULTIPLES)))
def test_a_model_of_one_size_is_refused(name):
    run = trained(name, size=28)
    with pytest.raises(UsageError, match=rf"--model={name}.* pictures of 28 x 28"):
        Denoiser(run)


def test_a_model_of_two_channels_is_refused():
    with pytest.raises(UsageError, match="2 channels"):
        Denoiser(trained(channels=2))


def build_unbounded(config, image_shape):
    """A model whose output depends on all of the image."""
    images = keras.Input(image_shape)
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True)(images)
    output = keras.layers.Conv2D(1, 1, activation="sigmoid")(images + mean)
    model = keras.Model(images, output)
    return Autoencoder(model, model, model, size_multiple=4)


def test_a_model_with_unbounded_reach_is_refused(monkeypatch):
    monkeypatch.setitem(MODELS, "conv", f"{__name__}:build_unbounded")
    with pytest.raises(UsageError, match="tiles of 1024 pixels"):
        Denoiser(trained.__wrapped__())


@pytest.mark.parametrize(
    ("model_channels", "channels", "dtype"),
    [
        *((1, 1, "uint8"), (1, 2, "uint16"), (1, 3, "uint16"), (1, 4, "uint8")),
        *((3, 1, "uint16"), (3, 2, "uint8"), (3, 3, "uint8"), (3, 4, "uint16")),
    ],
)
def test_gray_and_color_with_and_without_alpha(model_channels, channels, dtype):
    run = trained(channels=model_channels)
    picture = random_picture(70, 45, channels, dtype=dtype)
    if channels in (2, 4):  # transparent pixels have a test of their own
        picture[..., -1] = np.maximum(picture[..., -1], 1)
    before = picture.copy()
    found = denoiser_of(run).denoise(picture)
    assert (found.dtype, found.shape) == (picture.dtype, picture.shape)
    np.testing.assert_array_equal(picture, before)
    colors = 1 if channels < 3 else 3
    np.testing.assert_array_equal(found[..., colors:], picture[..., colors:])
    values = np.float32(picture[..., :colors] / FULL[dtype])
    if model_channels == 1:
        planes = [whole(run, values[..., c : c + 1]) for c in range(colors)]
        expected = np.concatenate(planes, axis=2)
    else:
        expected = whole(run, np.broadcast_to(values, (70, 45, 3)))
        expected = expected.mean(axis=2, keepdims=True) if colors == 1 else expected
    levels = found[..., :colors] - expected * FULL[dtype]
    assert abs(levels).max() <= 0.5 + 1e-6 * FULL[dtype]


def test_the_result_has_16_bits_of_precision():
    picture = random_picture(40, 40, 1, dtype="uint16")
    found = denoiser_of(trained()).denoise(picture)
    assert len(np.unique(found % 257)) > 100  # all 0 if 8 bits were scaled up


def test_a_bfloat16_run_denoises_in_float32():
    exact = trained()
    config = Config(precision="mixed_bfloat16")
    model = build_model(config, exact.image_shape)
    model.model.set_weights(exact.autoencoder.model.get_weights())
    picture = random_picture(40, 40, 1)
    found = Denoiser(TrainedModel(config, model, exact.image_shape, 0)).denoise(picture)
    np.testing.assert_array_equal(found, denoiser_of(exact, 1024).denoise(picture))


def test_the_model_is_compiled_once_for_all_sizes():
    denoiser = Denoiser(trained())
    for size in (4, 8, 12):
        denoiser.denoise(random_picture(size, 4, 1))
    assert denoiser._restore_values.experimental_get_tracing_count() == 1


def test_the_white_level_is_the_run_s_by_default():
    run = trained()
    values = {"dataset": "images", "data_dir": "x", "white_level": 4095}
    config = dataclasses.replace(run.config, **values)
    for white_level, expected in ((None, 4095), (0, 65535), (1023, 1023)):
        denoiser = Denoiser(run._replace(config=config), 64, white_level)
        assert denoiser.peaks["uint16"] == expected


def test_transparent_parts_do_not_darken_the_visible_rim():
    """A cut-out, black where it is transparent, like the same picture without a cut."""
    run = trained()
    whole_picture = np.full((40, 40, 2), 200, np.uint8)
    cut_out = whole_picture.copy()
    cut_out[:, 20:] = 0
    denoiser = denoiser_of(run)
    for each in (Denoiser(run, 64, ensemble=True), denoiser):
        expected, found = (each.denoise(p) for p in (whole_picture, cut_out))
        np.testing.assert_array_equal(found[:, :20, 0], expected[:, :20, 0])
        np.testing.assert_array_equal(found[:, 20:], cut_out[:, 20:])
    cut_out[..., 1] = 255
    opaque = denoiser.denoise(cut_out)
    assert np.abs(opaque[:, 16:20, 0].astype(int) - expected[:, 16:20, 0]).max() > 3


@pytest.mark.parametrize("channels", [1, 3])
def test_the_ensemble_is_the_mean_of_eight_outputs(channels):
    run = trained(channels=channels)
    picture = random_picture(65, 46, channels)  # no multiples of what the model takes
    plain, ensemble = Denoiser(run, 64), Denoiser(run, 64, ensemble=True)
    outputs = []
    for mirrored in (False, True):
        for turns in range(4):
            seen = np.rot90(picture[:, ::-1] if mirrored else picture, turns)
            output = np.rot90(plain.denoise(np.ascontiguousarray(seen)), -turns)
            outputs.append(output[:, ::-1] if mirrored else output)
    expected = np.mean(outputs, axis=0)
    np.testing.assert_allclose(ensemble.denoise(picture), expected, atol=2e-6)
    assert np.abs(expected - outputs[0]).max() > 1e-3


def test_the_arithmetic_can_have_16_bits():
    picture = random_picture(64, 64, 1)
    exact, rounded = (
        Denoiser(trained(), 64, precision=p).denoise(picture)
        for p in ("float32", "mixed_bfloat16")
    )
    assert 0 < np.abs(exact - rounded).max() < 0.05
