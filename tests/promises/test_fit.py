"""The loop trains what `Model.fit` trains: same weights, same batches, same losses.

The reference is stock Keras: its layers, its loss, its regularizer and its loop.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from compare_with_fit import STOCK_MODELS, compile_stock

from aelab.config import Config
from aelab.data import synthetic
from aelab.data.pipeline import make_train_dataset
from aelab.data.sources import ArraySource
from aelab.training.state import TrainState
from aelab.training.step import build_train_loop, means

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


def train_with_our_loop(config, source, state, steps):
    train_loop = build_train_loop(state, config)
    batches = iter(make_train_dataset(source, config, 0))
    losses = []
    for _ in range(steps):
        assert train_loop(batches, tf.constant(1, tf.int64))
        losses.append(means(state.totals)["loss"])
        state.totals["loss"].assign([0.0, 0.0])
    return losses


def train_with_fit(config, source, model, steps):
    """An epoch of one step each, so that the history is the loss of each step."""
    compile_stock(model, config, STEPS)
    dataset = make_train_dataset(source, config, 0)
    history = model.fit(
        dataset, epochs=steps, steps_per_epoch=1, shuffle=False, verbose=0
    )
    return history.history["loss"]


CALM_CONV = dataclasses.replace(CONV, optimizer="sgd", learning_rate=0.03)
# Adadelta at rate 1 makes of `conv` a chaotic system: what differs by rounding doubles
# every few steps, so it is compared for as long as that stays below the tolerance on
# every processor. (So does SGD at a rate of 0.1, after 50 steps.)
RUNS = {
    "dense": (DENSE, STEPS),
    "conv": (CONV, 20),
    "conv-stock-layers": (dataclasses.replace(CONV, stock_layers="true"), 20),
    "conv-sgd": (CALM_CONV, STEPS),
    "dense-mse-adam": (Config(model="dense", batch_size=64, loss="mse"), STEPS),
}


@pytest.mark.parametrize(("config", "steps"), RUNS.values(), ids=RUNS)
def test_losses_agree_with_fit_step_by_step(config, steps):
    source = ArraySource(synthetic.draw_images(300, seed=3)[0])
    state = TrainState(config, source.image_shape, STEPS)
    ours = state.model
    stock = STOCK_MODELS[config.model](config, source.image_shape)
    stock.set_weights(ours.get_weights())
    initial = [weight.copy() for weight in ours.get_weights()]

    our_losses = train_with_our_loop(config, source, state, steps)
    fit_losses = train_with_fit(config, source, stock, steps)

    assert len(fit_losses) == steps
    assert fit_losses[-1] < 0.95 * fit_losses[0]
    np.testing.assert_allclose(our_losses, fit_losses, rtol=2e-6)
    weights = zip(ours.get_weights(), stock.get_weights(), initial, strict=True)
    for mine, theirs, start in weights:
        moved = np.linalg.norm(theirs - start)
        assert np.linalg.norm(mine - theirs) <= 1e-5 * moved
