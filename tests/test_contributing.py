"""CONTRIBUTING.md's new model, pasted as it stands."""

import re

import numpy as np
import tensorflow as tf
from conftest import ROOT

from aelab.config import Config
from aelab.metrics import bce
from aelab.models import MODELS
from aelab.pipeline import make_train_dataset
from aelab.sources import ArraySource
from aelab.state import TrainState
from aelab.steps import build_train_loop, means


def test_the_new_model_in_ten_lines_trains(monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    namespace = {}
    exec(code, namespace)
    monkeypatch.setitem(MODELS, "tiny", namespace["build_tiny"])
    config = Config(batch_size=8, noise_stddev=0.3)
    monkeypatch.setitem(MODELS, config.model, MODELS["tiny"])
    state = TrainState(config, (28, 28, 1), 20)
    model = state.model
    assert model.name == "tiny"
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), np.uint8)
    batches = iter(make_train_dataset(ArraySource(images), config, 0))
    losses = []
    for _ in range(2):
        assert build_train_loop(state, config)(batches, tf.constant(10, tf.int64))
        losses.append(means(state.totals)["loss"])
    assert losses[1] < losses[0]
    assert model.layers[-1].layers[-1].activation.__name__ == "sigmoid"
    assert np.isfinite(
        bce(tf.ones([1, 28, 28, 1]), model(tf.zeros([1, 28, 28, 1])))
    ).all()
