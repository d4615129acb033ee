"""The loop takes the steps of `Model.fit`: same weights, same batches, same losses.

The reference is stock Keras: its layers, its loss, its regularizer and its loop.
"""

import keras
import numpy as np
import pytest
from compare_with_fit import STOCK_MODELS, compile_stock
from stepwise import Steps, assert_same_steps, take_steps

from aelab.config import Config
from aelab.data import synthetic
from aelab.data.pipeline import make_train_dataset
from aelab.data.sources import ArraySource
from aelab.training.loops import build_train_loop
from aelab.training.state import TrainState

STEPS = 12
IMAGES = 72  # so that the steps are of several epochs, which end within batches

RUNS = {
    "dense": Config(
        model="dense",
        l1_activity=1e-4,
        batch_size=32,
        optimizer="adadelta",
        learning_rate=1,
    ),
    "dense-mse-adam": Config(model="dense", batch_size=32, loss="mse"),
    "conv": Config(
        model="conv",
        noise_stddev=0.5,
        batch_size=16,
        optimizer="adadelta",
        learning_rate=1,
    ),
    # With plain gradient descent an update shows the scale of the gradient.
    "conv-stock-layers-sgd": Config(
        model="conv",
        stock_layers=True,
        noise_stddev=0.5,
        batch_size=16,
        optimizer="sgd",
        learning_rate=1,
    ),
}


class FromGivenStates(keras.callbacks.Callback):
    """Lets each batch of `fit` begin at a given state, and records where it ends."""

    def __init__(self, starts):
        super().__init__()
        self.starts, self.ends = starts, []

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def on_train_batch_begin(self, batch, logs=None):
        arrays = self.starts[len(self.ends)].values()
        for variable, array in zip(self._variables(), arrays, strict=True):
            variable.assign(array)

    def on_train_batch_end(self, batch, logs=None):
        arrays = [variable.numpy() for variable in self._variables()]
        self.ends.append(dict(zip(self.starts[0], arrays, strict=True)))


def take_steps_of_fit(config, source, starts):
    """The steps of `fit`, in epochs of one step: its history has the loss of each."""
    model = STOCK_MODELS[config.model](config, source.image_shape)
    compile_stock(model, config, STEPS)
    model.optimizer.build(model.trainable_variables)
    recorded = FromGivenStates(starts)
    history = model.fit(
        make_train_dataset(source, config, 0),
        epochs=len(starts),
        steps_per_epoch=1,
        shuffle=False,
        verbose=0,
        callbacks=[recorded],
    )
    return Steps(starts, recorded.ends, history.history["loss"])


@pytest.mark.parametrize("config", RUNS.values(), ids=RUNS)
def test_every_step_agrees_with_fit(config):
    images = synthetic.draw_images(IMAGES, seed=3)[0][:, 6:22, 6:22]
    source = ArraySource(images)
    state = TrainState(config, source.image_shape, STEPS)
    batches = iter(make_train_dataset(source, config, 0))
    ours = take_steps(state, build_train_loop(state, config), batches, STEPS)
    of_fit = take_steps_of_fit(config, source, ours.starts)
    assert_same_steps(ours, of_fit)
    np.testing.assert_allclose(ours.losses, of_fit.losses, rtol=2e-6)
