import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from registries import BOUNDED, SIZE_MULTIPLES, fill_zeros

from aelab.config import FIELDS, Config
from aelab.config.registry import MODELS
from aelab.errors import UsageError
from aelab.metrics import bce
from aelab.models import build_model

SHAPE, WIDE = (28, 28, 1), (32, 32, 1)  # all models take the second
PRECISIONS = FIELDS["precision"].metadata["choices"]


def images(shape=SHAPE, count=3):
    return np.random.default_rng(0).random((count, *shape), np.float32)


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"),
    [
        ("dense", 784 * 32 + 32, 32 * 784 + 784),
        ("conv", (9 + 1) * 32 + (9 * 32 + 1) * 32, 2 * (9 * 32 + 1) * 32 + 9 * 32 + 1),
    ],
)
def test_parameter_counts_are_those_in_the_textbook(name, encoder, decoder):
    autoencoder = build_model(Config(model=name), SHAPE)
    assert autoencoder.encoder.count_params() == encoder
    assert autoencoder.decoder.count_params() == decoder
    assert autoencoder.model.count_params() == {"dense": 50_992, "conv": 28_353}[name]


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("shape", [(32, 32, 1), (16, 24, 3), (64, 8, 1)])
def test_any_shape_comes_back(name, shape):
    output = build_model(Config(model=name), shape).model(images(shape))
    assert output.shape == (3, *shape)
    assert output.dtype == tf.float32
    if name in BOUNDED:
        assert float(tf.reduce_min(output)) >= 0
        assert float(tf.reduce_max(output)) <= 1


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("highest", [0, 0.2])
def test_resunet_adds_a_correction_to_its_input(precision, highest):
    """The input itself is not rounded to 16 bits, and may be outside [0, 1].

    Before training the correction is 0, and so is the output of each block.
    """
    config = Config(model="resunet", precision=precision, noise_stddev_max=highest)
    model = build_model(config, WIDE).model
    inputs = 3 * images(WIDE) - 1
    np.testing.assert_array_equal(model(inputs), inputs)
    for part in ("encoder", "decoder"):
        for layer in model.get_layer(part).layers:
            if layer.name.endswith("conv2") or layer.name == "correction":
                assert not np.any(layer.kernel)
                layer.kernel.assign(tf.fill(layer.kernel.shape, 0.01))
    assert np.abs(model(inputs) - inputs).max() > 1e-3


def test_resunet_estimates_the_level_of_the_noise():
    """Smooth parts of a picture count most; FFDNet has such a map as an input."""
    config = Config(model="resunet", noise_stddev_max=0.2)
    encoder = build_model(config, (None, None, 1)).encoder
    levels = keras.Model(encoder.input, encoder.get_layer("levels").input[1])
    normal = np.random.default_rng(0).normal(size=(1, 160, 160, 1)).astype(np.float32)
    texture = np.tile([[0.2, 0.8], [0.8, 0.2]], (80, 80))[None, ..., None]
    texture[:, :, :120] = 0.5
    for stddev in (0.02, 0.1):
        flat = levels(0.5 + stddev * normal).numpy() / 8
        assert flat.shape == (1, 80, 80, 2)
        np.testing.assert_allclose(flat.mean((0, 1, 2)), stddev, rtol=0.15)
        assert np.std(flat[..., 1]) < 0.05 * stddev < np.std(flat[..., 0])
        blocks, smooth = np.moveaxis(levels(texture + stddev * normal)[0] / 8, 2, 0)
        # In the texture, which begins at 60, but with smooth parts within 36 pixels.
        assert blocks[:, 60:64].min() > 0.5
        assert 0.8 * stddev < smooth[:, 60:64].mean() < 1.5 * stddev
        # Next to an area without noise, such as an overexposed one.
        overexposed = 0.5 + stddev * normal
        overexposed[:, :, 83:] = 1
        beside = levels(overexposed).numpy()[0, :, :42] / 8
        assert 0.7 * stddev < beside.mean(0).min() < beside.mean(0).max() < 1.2 * stddev
    np.testing.assert_allclose(
        levels(np.ones([1, 16, 24, 1], np.float32)), 0, atol=1e-4
    )
    with pytest.raises(UsageError, match="--filters=2 must be above 2"):
        build_model(dataclasses.replace(config, filters=2), WIDE)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_resunet_for_noise2void_does_not_add_its_input(precision):
    """Otherwise the noise of pixels that are not masked would stay in the output."""
    config = Config(
        model="resunet",
        supervision="noise2void",
        corruption="none",
        loss="mse",
        precision=precision,
    )
    model = build_model(config, WIDE).model
    assert model(images(WIDE)).dtype == "float32"
    for variable in model.get_layer("decoder").get_layer("clean").variables:
        variable.assign(tf.zeros(variable.shape))
    np.testing.assert_array_equal(model(images(WIDE)), np.zeros((3, *WIDE)))


def test_resunet_has_about_a_million_parameters():
    assert build_model(Config(model="resunet"), WIDE).model.count_params() == 1_044_289
    config = Config(model="resunet", noise_stddev_max=0.2)
    color = build_model(config, (64, 64, 3)).model
    assert color.count_params() < 1_100_000


@pytest.mark.parametrize("name", sorted(MODELS))
def test_encoder_and_decoder_are_the_model(name):
    model, encoder, decoder, *_ = autoencoder = build_model(Config(model=name), WIDE)
    code = encoder(images(WIDE))
    if autoencoder.bottleneck:
        code = autoencoder.bottleneck(code, None)
    np.testing.assert_array_equal(decoder(code), model(images(WIDE)))
    assert model.get_layer("encoder") is encoder
    assert model.get_layer("decoder") is decoder


def test_the_code_of_dense_has_the_requested_size():
    model = build_model(Config(model="dense", encoding_dim=768), SHAPE)
    assert model.encoder(images()).shape == (3, 768)


def test_code_activation():
    relu = build_model(Config(model="dense"), SHAPE)
    linear = build_model(Config(model="dense", code_activation="linear"), SHAPE)
    code = linear.encoder(images()).numpy()
    assert code.min() < 0
    np.testing.assert_array_equal(relu.encoder(images()), np.maximum(code, 0))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_seed_determines_the_initial_weights(name):
    config = Config(model=name)
    first = build_model(config, WIDE).model.get_weights()
    again = build_model(config, WIDE).model.get_weights()
    other = build_model(dataclasses.replace(config, seed=1), WIDE).model.get_weights()
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(first, other, strict=True):
        if one.ndim < 2 or not one.any():  # biases and some kernels begin as zeros
            assert not two.any()
            continue
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.2


def test_layers_of_the_same_shape_start_out_different():
    model = build_model(Config(model="conv"), SHAPE)
    paths = {v.path: v.numpy() for v in model.variables}
    assert not np.array_equal(
        paths["encoder/conv2/kernel"], paths["decoder/conv3/kernel"]
    )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_variables_have_unique_names_in_every_build(name):
    paths = [
        [v.path for v in build_model(Config(model=name), WIDE).variables] for _ in "ab"
    ]
    assert paths[0] == paths[1]
    assert len(set(paths[0])) == len(paths[0])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", sorted(MODELS))
def test_only_the_arithmetic_is_in_16_bits(name, precision):
    """Weights and output are float32, and Keras' global policy does not change."""
    model = build_model(Config(model=name, precision=precision), WIDE).model
    fill_zeros(model)
    assert keras.config.dtype_policy().name == "float32"
    computed = precision.removeprefix("mixed_")
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D):
            assert layer.compute_dtype == computed
            assert layer(np.ones([1, *layer.input.shape[1:]])).dtype == computed
    assert {v.dtype for v in model.variables} == {"float32"}
    output = model(images(WIDE))
    assert output.dtype == tf.float32
    model = build_model(Config(model=name), WIDE).model
    fill_zeros(model)
    exact = model(images(WIDE))
    np.testing.assert_allclose(output, exact, atol=0.02)
    if precision != "float32":
        assert not np.array_equal(output, exact)


def test_the_dtype_policy_is_restored_if_a_model_cannot_be_built():
    with pytest.raises(UsageError):
        build_model(Config(model="conv", precision="mixed_float16"), (27, 28, 1))
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", BOUNDED)
def test_gradient_survives_a_saturated_output(name, precision):
    """Through the logits: d bce / d logit = sigmoid - target = -1, never 0."""
    model = build_model(Config(model=name, precision=precision), SHAPE).model
    bias = next(v for v in model.variables if v.path.endswith("pixels/bias"))
    bias.assign(tf.fill(bias.shape, -60.0))

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(bce(tf.ones([1, *SHAPE]), model(images(count=1))))
        return tape.gradient(loss, bias.value)

    # 16 bits add 784 numbers of -1/784 with some rounding; lost it would be 0.
    rel = 1e-5 if precision == "float32" else 1e-2
    assert float(tf.reduce_sum(gradient())) == pytest.approx(-1, rel=rel)


@pytest.mark.parametrize("name", sorted(SIZE_MULTIPLES))
@pytest.mark.parametrize("change", [(0, 1), (-1, 0), (1, 2)])
def test_a_size_that_cannot_be_halved_is_refused_with_a_size_that_can(name, change):
    multiple = SIZE_MULTIPLES[name]
    height, width = (3 * multiple + added for added in change)
    near = " x ".join(str(-(-n // multiple) * multiple) for n in (height, width))
    message = (
        rf"--model={name} .* multiples of {multiple}, for example {near}; .*{height}"
    )
    with pytest.raises(UsageError, match=message):
        build_model(Config(model=name), (height, width, 1))


def test_dense_takes_images_of_one_size():
    with pytest.raises(UsageError, match="--model=dense takes images of one"):
        build_model(Config(model="dense"), (None, None, 1))


@pytest.mark.parametrize("stock_layers", [False, True])
@pytest.mark.parametrize("name", sorted(SIZE_MULTIPLES))
def test_one_network_for_images_of_any_size(name, stock_layers):
    """Its output equals the output of a network built for the size."""
    config = Config(model=name, stock_layers=stock_layers)
    multiple = SIZE_MULTIPLES[name]
    model = build_model(config, (None, None, 3)).model
    for height, width in [(1, 1), (2, 5), (9, 4)]:
        shape = (height * multiple, width * multiple, 3)
        of_size = build_model(config, shape).model
        assert [v.path for v in of_size.variables] == [v.path for v in model.variables]
        np.testing.assert_allclose(
            model(images(shape)), of_size(images(shape)), atol=1e-6
        )


def test_the_unet_has_the_parameters_of_its_blocks():
    """And its code and skip both reach the output."""
    model, encoder, decoder, *_ = build_model(Config(model="unet"), SHAPE)
    fine, coarse = 2 * (9 * 32 + 1) * 32, 2 * (9 * 64 + 1) * 64
    down, up = (4 * 32 + 1) * 64, (9 * 64 + 1) * 32
    ends = (16 + 1) * 32 + (9 * 32 + 1)
    assert model.count_params() == 2 * fine + 2 * coarse + down + up + ends == 212_257
    wide = build_model(Config(model="unet", filters=64), SHAPE).model
    assert wide.count_params() == 846_401
    build_model(Config(model="unet", filters=1, blocks=7), SHAPE)  # the most
    deep = build_model(Config(model="unet", blocks=2), SHAPE).model
    assert deep.count_params() == 212_257 + 2 * fine + 2 * coarse
    code, skip = encoder(images())
    output = decoder([code, skip])
    for other in ([0 * code, skip], [code, 0 * skip]):
        assert float(tf.reduce_max(tf.abs(decoder(other) - output))) > 1e-3


def test_models_can_be_built_from_stock_keras_layers_only():
    for name in MODELS:
        model = build_model(Config(model=name, stock_layers=True), WIDE).model
        for layer in model._flatten_layers():
            assert type(layer).__module__.startswith("keras."), layer


def test_a_function_that_returns_something_else_is_refused(monkeypatch, tmp_path):
    (tmp_path / "returns_text.py").write_text(
        "def build(config, shape):\n    return 'model'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"returns_text:build must .*, not a str"):
        build_model(Config(model="returns_text:build"), SHAPE)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nonesuch:build", "there is no module nonesuch"),
        ("aelab.models.dense:nonesuch", "aelab.models.dense has no nonesuch"),
        ("aelab.models.conv:_FILTERS", "is not a function"),
    ],
)
def test_a_function_that_does_not_exist_is_refused(name, words):
    with pytest.raises(UsageError, match=f"--model={name}.*{words}"):
        build_model(Config(model=name), SHAPE)


@pytest.mark.parametrize(
    "name, size",
    [(name, 16) for name in sorted(MODELS)]
    + [(name, None) for name in sorted(SIZE_MULTIPLES)],
)
def test_a_compiled_network_prints_no_error(name, size, capfd):
    """TensorFlow's graph optimizer has errors of its own on some networks."""
    model = build_model(Config(model=name), (size, size, 1)).model
    tf.function(model, autograph=False)(images((16, 16, 1)))
    assert capfd.readouterr().err == ""
