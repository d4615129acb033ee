"""The loop trains what `Model.fit` trains: same weights, same batches, same losses.

The reference is stock Keras: its layers, its loss, its regularizer and its loop.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aelab import synthetic
from aelab.config import Config
from aelab.models import build_model
from aelab.optimizers import build_optimizer
from aelab.pipeline import make_train_dataset
from aelab.sources import ArraySource
from aelab.steps import TrainState, build_train_loop, means

STEPS = 60

# Textbook settings; 300 images make the batches run across several epochs.
DENSE = Config(
    model="dense",
    l1_activity=1e-4,
    batch_size=64,
    optimizer="adadelta",
    learning_rate=1,
)
CONV = Config(
    model="conv", noise_stddev=0.5, batch_size=16, optimizer="adadelta", learning_rate=1
)


def stock_dense(config):
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(
                32,
                activation="relu",
                activity_regularizer=keras.regularizers.L1(config.l1_activity),
            ),
            keras.layers.Dense(784, activation="sigmoid"),
            keras.layers.Reshape((28, 28, 1)),
        ]
    )


def stock_conv(config):
    def conv(filters, activation):
        return keras.layers.Conv2D(filters, 3, padding="same", activation=activation)

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            conv(32, "relu"),
            keras.layers.MaxPooling2D(2),
            conv(32, "relu"),
            keras.layers.MaxPooling2D(2),
            conv(32, "relu"),
            keras.layers.UpSampling2D(2),
            conv(32, "relu"),
            keras.layers.UpSampling2D(2),
            conv(1, "sigmoid"),
        ]
    )


def train_with_our_loop(config, source, model):
    state = TrainState(model, build_optimizer(config, STEPS))
    train_loop = build_train_loop(state, config)
    batches = iter(make_train_dataset(source, config, 0, STEPS))
    losses = []
    for _ in range(STEPS):
        assert train_loop(batches, tf.constant(1, tf.int64))
        losses.append(means(state.totals)["loss"])
        state.totals["loss"].assign([0.0, 0.0])
    return losses


def train_with_fit(config, source, model):
    """An epoch of one step each, so that the history is the loss of each step."""
    loss = {"bce": "binary_crossentropy", "mse": "mean_squared_error"}[config.loss]
    optimizer = keras.optimizers.get(config.optimizer)
    optimizer.learning_rate = config.learning_rate
    model.compile(optimizer=optimizer, loss=loss)
    dataset = make_train_dataset(source, config, 0, STEPS)
    history = model.fit(
        dataset, epochs=STEPS, steps_per_epoch=1, shuffle=False, verbose=0
    )
    return history.history["loss"]


@pytest.mark.parametrize(
    ("config", "build_stock"),
    [
        (DENSE, stock_dense),
        (CONV, stock_conv),
        (Config(model="dense", batch_size=64, loss="mse"), stock_dense),
    ],
    ids=["dense", "conv", "dense-mse-adam"],
)
def test_losses_agree_with_fit_step_by_step(config, build_stock):
    source = ArraySource(synthetic.draw_images(300, seed=3)[0])
    ours = build_model(config, source.image_shape)
    stock = build_stock(config)
    stock.set_weights(ours.get_weights())
    initial = [weight.copy() for weight in ours.get_weights()]

    our_losses = train_with_our_loop(config, source, ours)
    fit_losses = train_with_fit(config, source, stock)

    assert len(fit_losses) == STEPS
    assert fit_losses[-1] < 0.95 * fit_losses[0]
    np.testing.assert_allclose(our_losses, fit_losses, rtol=1e-5)
    weights = zip(ours.get_weights(), stock.get_weights(), initial, strict=True)
    for mine, theirs, start in weights:
        moved = np.linalg.norm(theirs - start)
        assert np.linalg.norm(mine - theirs) <= 1e-3 * moved
