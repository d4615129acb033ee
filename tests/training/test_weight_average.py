"""The moving average of the weights: its values, and who uses it."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import run_script
from test_replicas import strategy_of
from test_step import CONFIG, assert_same, new_state, source, steps, train

from aelab.apps.export import export
from aelab.data.pipeline import make_eval_dataset, num_eval_batches
from aelab.data.sources import load_part
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.training.loops import (
    build_evaluate,
    build_train_loop,
    model_metrics,
    training_batches,
)
from aelab.training.state import TrainState

DECAY = 0.4
AVERAGED = dataclasses.replace(CONFIG, weight_average=DECAY)


def weights(state, group):
    """The arrays of a group, by the names of the variables."""
    return {
        n[len(group) :]: a for n, a in state.arrays().items() if n.startswith(group)
    }


def test_the_average_follows_the_weights_with_a_decay_that_grows():
    state, loop = train(AVERAGED, 0, 1)
    expected = weights(state, "model/")
    for step in range(12):
        state, loop = train(AVERAGED, 1, 1, state, loop)
        decay = min(DECAY, (1 + step) / (10 + step))  # 0.1, 0.18, ... 0.4
        for name, value in weights(state, "model/").items():
            expected[name] = expected[name] + (1 - decay) * (value - expected[name])
    for name, value in weights(state, "average/").items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7)
        assert np.abs(value - weights(state, "model/")[name]).max() > 1e-4


def test_the_average_does_not_change_training():
    averaged, plain = train(AVERAGED, 9, 4)[0], train(CONFIG, 9, 4)[0]
    assert_same(weights(averaged, "model/"), weights(plain, "model/"))


def test_it_is_the_same_with_xla_and_resumes_bit_for_bit():
    whole, _ = train(AVERAGED, 7, 7)
    half, loop = train(AVERAGED, 3, 3)
    resumed = new_state(AVERAGED)
    resumed.assign(half.arrays())
    train(AVERAGED, 4, 2, resumed)
    assert_same(resumed.arrays(), whole.arrays())
    state = new_state(AVERAGED)
    loop = build_train_loop(state, AVERAGED, use_xla=True)
    train(AVERAGED, 7, 7, state, loop)
    for name, value in weights(state, "average/").items():
        np.testing.assert_allclose(value, weights(whole, "average/")[name], atol=1e-6)


@pytest.mark.parametrize("replicas", [2, 4])
def test_each_replica_has_the_same_average(replicas):
    strategy = strategy_of(replicas)
    state = TrainState(AVERAGED, (12, 16, 1), 100, strategy)
    loop = build_train_loop(state, AVERAGED)
    assert loop(training_batches(state, AVERAGED, source()), steps(5))
    single, _ = train(AVERAGED, 5, 5)
    for variable in state.evaluated.variables:
        copies = strategy.experimental_local_results(variable.value)
        assert len(copies) == replicas
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0])
    for name, value in weights(state, "average/").items():
        np.testing.assert_allclose(value, weights(single, "average/")[name], atol=1e-5)


def test_a_step_that_is_not_finite_changes_no_average():
    state, _ = train(AVERAGED, 2, 2)
    before = weights(state, "average/")
    weight = state.autoencoder.trainable_variables[-1]
    weight.assign(tf.fill(weight.shape, np.float32("nan")))
    batches = training_batches(state, AVERAGED, source())
    assert not build_train_loop(state, AVERAGED)(batches, steps(1))
    assert_same(weights(state, "average/"), before)


def evaluate(autoencoder, config, images):
    dataset = make_eval_dataset(images, config)
    return build_evaluate(model_metrics(autoencoder, config))(
        dataset, num_eval_batches(images, config)
    )


@pytest.mark.slow
def test_a_run_evaluates_keeps_and_gives_the_averaged_weights(tmp_path):
    path = tmp_path / "run"
    flags = ["--model=dense", "--train_examples=64", "--eval_examples=32"]
    flags += ["--epochs=3", "--batch_size=16", "--weight_average=0.99"]
    result = run_script("train", *flags, f"--run_dir={path}")
    assert result.returncode == 0, result.stderr
    run = RunDirectory(str(path))
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    *_, last = (line for line in lines if line["split"] == "eval")
    for checkpoint in ("best", "latest"):
        arrays = checkpoints.load(checkpoints.newest(run.checkpoints(checkpoint)))
        trained = load_trained(run, checkpoint)
        for name, variable in trained.autoencoder.named_variables().items():
            np.testing.assert_array_equal(variable, arrays[f"average/{name}"])
            assert np.abs(variable - arrays[f"model/{name}"]).max() > 0
    assert export(run.path, str(tmp_path / "a.keras"), checkpoint="latest") == 12
    exported = keras.models.load_model(tmp_path / "a.keras")
    for ours, theirs in zip(
        exported.get_weights(), trained.autoencoder.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    images = load_part(trained.config, "test")
    found = evaluate(trained.autoencoder, trained.config, images)
    assert found["psnr"] == pytest.approx(last["psnr"], rel=1e-5)
