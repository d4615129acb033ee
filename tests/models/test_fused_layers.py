import keras
import numpy as np
import pytest
import tensorflow as tf
from registries import BOUNDED, fill_zeros

from aelab.config import Config
from aelab.config.registry import MODELS
from aelab.metrics import bce, mse
from aelab.models import build_model
from aelab.models import fused_layers as layers
from aelab.models.fused_layers import Conv2DMaxPool, SameConv2D, UpSampleConv2D

# (height, width, channels, filters): textbook shapes, colour, few and many filters.
SHAPES = [(4, 6, 1, 32), (8, 4, 3, 5), (6, 6, 32, 1), (4, 4, 32, 3), (14, 14, 32, 32)]


def stock(filters, dtype, activation, before=(), after=(), size=3, strides=1):
    arguments = {"activation": activation, "dtype": dtype, "name": "conv"}
    conv = keras.layers.Conv2D(filters, size, strides, padding="same", **arguments)
    return keras.Sequential([*before, conv, *after])


def pair(kind, filters, dtype, activation="relu"):
    """Our layer, and the equivalent stock layers."""
    arguments = {"activation": activation, "dtype": dtype, "name": "conv"}
    if kind == "same":
        return SameConv2D(filters, 3, **arguments), stock(filters, dtype, activation)
    if kind == "strided":
        ours = SameConv2D(filters, 4, strides=2, **arguments)
        return ours, stock(filters, dtype, activation, size=4, strides=2)
    if kind == "pool":
        after = [keras.layers.MaxPooling2D(2, dtype=dtype)]
        ours = Conv2DMaxPool(filters, 3, **arguments)
        return ours, stock(filters, dtype, activation, after=after)
    before = [keras.layers.UpSampling2D(2, dtype=dtype)]
    return UpSampleConv2D(filters, **arguments), stock(
        filters, dtype, activation, before=before
    )


def value_and_gradients(layer, inputs, upstream):
    @tf.function
    def compute(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            loss = tf.reduce_sum(outputs * upstream)
        variables = [variable.value for variable in layer.trainable_variables]
        return outputs, tape.gradient(loss, [inputs, *variables])

    outputs, gradients = compute(inputs)
    return [array.numpy() for array in (outputs, *gradients)]


@pytest.mark.parametrize("kind", ["same", "strided", "pool", "up"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
def test_values_and_gradients_equal_stock_layers(kind, shape, dtype, rtol):
    """Within `rtol` of the largest element, of output, input, kernel and bias."""
    height, width, channels, filters = shape
    generator = np.random.default_rng(0)
    inputs = tf.constant(generator.standard_normal((3, height, width, channels)), dtype)
    ours, theirs = pair(kind, filters, dtype)
    outputs = theirs(inputs)
    assert ours(inputs).shape == outputs.shape
    assert ours.compute_output_shape(inputs.shape) == outputs.shape
    weights = [generator.standard_normal(w.shape) for w in theirs.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    assert [v.path for v in ours.variables] == ["conv/kernel", "conv/bias"]
    upstream = tf.constant(generator.standard_normal(outputs.shape), dtype)
    expected = value_and_gradients(theirs, inputs, upstream)
    for mine, right in zip(
        value_and_gradients(ours, inputs, upstream), expected, strict=True
    ):
        assert np.abs(right).max() > 0
        np.testing.assert_allclose(mine, right, atol=rtol * np.abs(right).max(), rtol=0)


@pytest.mark.parametrize("kind", ["pool", "up"])
def test_the_batch_may_be_of_any_size(kind):
    ours, _ = pair(kind, 4, "float32")
    model = keras.Sequential([keras.Input((8, 8, 2)), ours])
    assert model.output_shape[0] is None
    assert len(model(np.ones([5, 8, 8, 2]))) == 5


def test_equal_values_in_a_window_pass_the_gradient_to_one_like_stock_layers():
    """Flat parts of a picture have them: the first one gets the gradient."""
    ours, theirs = pair("pool", 8, "float64")
    inputs = tf.fill([2, 8, 8, 1], tf.constant(0.5, tf.float64))
    theirs(inputs), ours(inputs)
    ours.set_weights(theirs.get_weights())
    upstream = tf.ones([2, 4, 4, 8], tf.float64)
    expected = value_and_gradients(theirs, inputs, upstream)
    for mine, right in zip(
        value_and_gradients(ours, inputs, upstream), expected, strict=True
    ):
        np.testing.assert_allclose(mine, right, atol=1e-12)


def both(name, shape, **fields):
    """A network of our layers, and the same network of stock layers."""
    return (
        build_model(Config(model=name, stock_layers=choice, **fields), shape)
        for choice in (False, True)
    )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_stock_layers_has_the_same_variables_and_first_values(name):
    ours, theirs = both(name, (32, 32, 1), seed=7)
    for mine, right in zip(ours.variables, theirs.variables, strict=True):
        assert mine.path == right.path
        np.testing.assert_array_equal(mine.numpy(), right.numpy())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_gradient_of_a_network_equals_stock_layers(name):
    """In the median of three batches: rounding can turn a ReLU off."""
    shape = (16, 16, 1)
    ours, theirs = both(name, shape)
    for network in (ours, theirs):
        fill_zeros(network.model)
    generator = np.random.default_rng(1)
    batches = generator.random((3, 2, *shape), np.float32)

    def gradients(model):
        def compute(images):
            with tf.GradientTape() as tape:
                # Not of the model: one that rounds its code has no gradient.
                output = model.decoder(model.encoder(images))
                loss = tf.reduce_mean((bce if name in BOUNDED else mse)(images, output))
            halves = model.encoder, model.decoder
            weights = [v.value for half in halves for v in half.trainable_variables]
            return tape.gradient(loss, weights)

        return [[g.numpy() for g in compute(tf.constant(batch))] for batch in batches]

    np.testing.assert_allclose(
        ours.model(batches[0]), theirs.model(batches[0]), atol=1e-6
    )
    errors = [
        [np.linalg.norm(m - r) / np.linalg.norm(r) for m, r in zip(*pair, strict=True)]
        for pair in zip(gradients(ours), gradients(theirs), strict=True)
    ]
    assert np.median(errors, axis=0).max() <= 1e-5


@pytest.mark.parametrize("kind", ["same", "pool", "up"])
def test_bfloat16_without_hardware_rounds_exact_sums(kind, monkeypatch):
    """The sum of products of bfloat16 factors is rounded once."""
    monkeypatch.setattr(layers, "_has_bfloat16", lambda: False)
    rounded, _ = pair(kind, 6, "mixed_bfloat16", activation="linear")
    exact, _ = pair(kind, 6, "float32", activation="linear")
    generator = np.random.default_rng(2)
    inputs = tf.cast(generator.standard_normal((2, 8, 8, 3)), tf.bfloat16)
    outputs = rounded(inputs)
    kernel = tf.cast(generator.standard_normal((3, 3, 3, 6)), tf.bfloat16)
    exact(tf.cast(inputs, tf.float32))
    for layer in (rounded, exact):
        layer.set_weights([tf.cast(kernel, tf.float32).numpy(), np.zeros(6)])
    expected = tf.cast(exact(tf.cast(inputs, tf.float32)), tf.bfloat16)
    outputs = rounded(inputs)
    assert outputs.dtype == tf.bfloat16
    np.testing.assert_array_equal(
        tf.cast(outputs, tf.float32), tf.cast(expected, tf.float32)
    )
