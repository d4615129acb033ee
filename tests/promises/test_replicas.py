"""Several devices train what one device trains. Rehearsed on logical CPUs."""

import dataclasses
import functools
import math
import sys

import numpy as np
import pytest
import tensorflow as tf
from registries import BOUNDED, fill_zeros
from stepwise import assert_same_steps, take_steps, updates
from test_optimizers import FAULTY

from aelab.config import Config
from aelab.config.registry import MODELS
from aelab.data.corruptions import CORRUPTIONS
from aelab.data.pipeline import (
    distribute,
    make_eval_dataset,
    make_train_dataset,
    num_eval_batches,
)
from aelab.data.sources import ArraySource
from aelab.distributed.devices import STRATEGIES
from aelab.metrics import means
from aelab.training import objective
from aelab.training.loops import (
    build_evaluate,
    build_train_loop,
    model_metrics,
    training_batches,
)
from aelab.training.state import TrainState

SHAPE = (16, 16, 1)
STEPS = 5
TOTAL_STEPS = 50  # of the learning rate's schedule
CONFIGS = {
    name: Config(model=name, noise_stddev=0.5, batch_size=8, loss="mse")
    for name in MODELS
} | {
    "dense": Config(
        model="dense",
        encoding_dim=8,
        l1_activity=1e-4,
        noise_stddev=0.3,
        batch_size=16,
        learning_rate=1e-2,
    ),
    "conv": Config(model="conv", noise_stddev=0.5, batch_size=16, loss="mse"),
    "codec": Config(
        model="codec",
        encoding_dim=8,
        rate_weight=0.05,
        mirror=True,
        max_shift=1,
        batch_size=16,
        loss="log_mse",
    ),
}


def strategy_of(replicas):
    if replicas == 1:
        return tf.distribute.get_strategy()
    devices = ",".join(f"CPU:{n}" for n in range(replicas))
    return STRATEGIES["mirrored"](Config(strategy="mirrored", devices=devices), None)


def source(count=50):
    """Smooth images, so that there is something to learn."""
    generator = np.random.default_rng(1)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    phases = generator.uniform(0.2, 1, (count, 2, 1, 1))
    waves = np.sin(phases[:, 0] * rows) * np.cos(phases[:, 1] * columns)
    return ArraySource(np.uint8(127 + 120 * waves)[..., np.newaxis])


class Run:
    """A state and the loop that trains it on some replicas."""

    def __init__(self, config, replicas, use_xla=False):
        self.config, self.strategy = config, strategy_of(replicas)
        self.state = TrainState(config, SHAPE, TOTAL_STEPS, self.strategy)
        # Zeros have gradients that are almost 0, and Adam enlarges their rounding.
        fill_zeros(self.state.autoencoder.model)
        self.loop = build_train_loop(self.state, config, use_xla)
        self._initial = self.state.arrays()
        self.restart()

    def restart(self):
        """Goes back to the first step, without compiling again."""
        self.state.assign(self._initial)
        self.batches = training_batches(self.state, self.config, source())
        return self

    def take_steps(self, count=STEPS, starts=None):
        """The first steps of the run, see `stepwise.take_steps`."""
        self.restart()
        return take_steps(self.state, self.loop, self.batches, count, starts)

    def train(self, num_steps):
        """Trains; returns the mean loss of these steps and whether all went well."""
        self.state.totals["loss"].assign([0.0, 0.0])
        went_well = bool(self.loop(self.batches, tf.constant(num_steps, tf.int64)))
        return means(self.state.totals).get("loss", math.nan), went_well

    def weights(self):
        """All trained numbers in a row."""
        return np.concatenate([np.ravel(v) for v in self.state.autoencoder.variables])

    def copies(self):
        """The values on all replicas of each variable of model and optimizer."""
        variables = [*self.state.autoencoder.variables, *self.state.optimizer.variables]
        local = self.strategy.experimental_local_results
        return [[copy.numpy() for copy in local(v.value)] for v in variables]


@functools.cache
def _compiled_run(name, replicas):
    return Run(CONFIGS[name], replicas)


@pytest.fixture
def shared_run():
    """`shared_run(name, replicas)`: a run at its first step, compiled only once."""
    runs = []

    def shared(name, replicas):
        runs.append(_compiled_run(name, replicas).restart())
        return runs[-1]

    yield shared
    for run in runs:
        run.batches = None  # the older an iterator, the longer TensorFlow deletes it


@functools.cache
def steps_of_one_device(config):
    """The first steps of a float32 run on one device, the reference."""
    return Run(config, 1).take_steps()


def assert_copies_are_equal(run):
    for copies in run.copies():
        for copy in copies:
            np.testing.assert_array_equal(copy, copies[0])


@pytest.mark.parametrize(
    ("name", "replicas"),
    [*((name, 2) for name in sorted(CONFIGS)), ("dense", 4)],
)
def test_float32_agrees_with_one_device(shared_run, name, replicas):
    expected = steps_of_one_device(CONFIGS[name])
    run = shared_run(name, replicas)
    assert_same_steps(run.take_steps(starts=expected.starts), expected)
    assert {len(copies) for copies in run.copies()} == {replicas}
    assert_copies_are_equal(run)


# Plain descent, where a factor on the gradient shows in the update, and optimizers that
# decay weights or keep more than moments. The others differ from these in one formula.
@pytest.mark.parametrize(
    "optimizer", sorted({"adafactor", "adamw", "lion", "muon", "nadam", "sgd"} - FAULTY)
)
def test_optimizers_agree_with_one_device(optimizer):
    config = dataclasses.replace(
        CONFIGS["dense"], optimizer=optimizer, learning_rate=1e-3, warmup_steps=5
    )
    assert not config.gradient_clip_norm
    one, two = Run(config, 1), Run(config, 2)
    expected = one.take_steps()
    assert_same_steps(two.take_steps(starts=expected.starts), expected)


# One unit in the last place of the format: the share of a weight's gradient that a
# replica computes is rounded to 16 bits once, and the shares are summed in float32.
ROUNDING = {"mixed_bfloat16": 2.0**-8, "mixed_float16": 2.0**-11}
# Where kernels sum in another order for another number of rows, layers in between round
# differently as well: up to 3.6 units, in `unet` without oneDNN.
UNITS = {name: 4 for name in MODELS} | {"dense": 1}


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *((name, "mixed_bfloat16") for name in sorted(CONFIGS)),
        *((name, "mixed_float16") for name in ("conv", "dense")),
    ],
)
def test_a_gradient_in_16_bits_differs_only_by_its_rounding(name, precision):
    """Plain descent from the states of a float32 run: its updates are the gradients."""
    rate = 0.5 if name in BOUNDED else 0.02
    config = dataclasses.replace(CONFIGS[name], optimizer="sgd", learning_rate=rate)
    exact = steps_of_one_device(config)
    config = dataclasses.replace(config, precision=precision)
    one, two = (Run(config, n).take_steps(starts=exact.starts) for n in (1, 2))
    np.testing.assert_allclose(one.losses, exact.losses, rtol=0.01)
    np.testing.assert_allclose(two.losses, one.losses, rtol=0.01)
    assert (updates(one) != updates(exact)).any(axis=1).all()
    errors = np.linalg.norm(updates(two) - updates(one), axis=1)
    units = errors / np.linalg.norm(updates(one), axis=1) / ROUNDING[precision]
    assert np.median(units) <= UNITS[name]


@pytest.mark.parametrize("name", ["conv", "dense"])
def test_steps_per_loop_changes_nothing(shared_run, name):
    """Bit for bit, on two replicas; test_step.py has every model on one."""
    states = []
    for steps_per_loop in (1, 7, 100):
        run = shared_run(name, 2)
        for first in range(0, 20, steps_per_loop):
            run.train(min(steps_per_loop, 20 - first))
        states.append(run.state.arrays())
    for key in states[0].keys() - {"totals/loss"}:
        np.testing.assert_array_equal(states[1][key], states[0][key], err_msg=key)
        np.testing.assert_array_equal(states[2][key], states[0][key], err_msg=key)


def test_four_replicas_share_the_global_batch_of_one_device():
    """Bit for bit, examples and all corruptions, as the replicas get them."""
    config = dataclasses.replace(
        CONFIGS["conv"],
        corruption=",".join(sorted(CORRUPTIONS.keys() - {"none"})),
        noise_stddev=0.5,
        noise_stddev_max=0.8,
    )
    strategy = strategy_of(4)
    datasets = [
        distribute(strategy, lambda s: make_train_dataset(source(), config, 5, s)),
        distribute(strategy, lambda s: make_eval_dataset(source(), config, s)),
    ]
    whole = [
        make_train_dataset(source(), config, 5),
        make_eval_dataset(source(), config),
    ]
    local = strategy.experimental_local_results
    for dataset, expected in zip(datasets, whole, strict=True):
        pairs = zip(iter(dataset), expected.take(4), strict=False)
        for batch, wanted in [next(pairs) for _ in range(4)]:
            for part, tensor in zip(batch, wanted, strict=True):
                rows = np.concatenate([value.numpy() for value in local(part)])
                np.testing.assert_array_equal(rows, tensor)


class InfiniteGradient:
    """Makes the gradient of step 3 infinite on one replica."""

    def __init__(self, monkeypatch):
        self.replica, self.run = tf.Variable(0), None
        losses = objective.image_losses

        @tf.custom_gradient
        def explode(values, addend):
            return values, lambda upstream: (upstream + addend, None)

        def exploding_losses(*inputs):
            here = tf.distribute.get_replica_context().replica_id_in_sync_group
            hit = (self.run.state.step == 3) & (here == self.replica)
            return explode(losses(*inputs), tf.where(hit, math.inf, 0.0))

        monkeypatch.setattr(objective, "image_losses", exploding_losses)

    def on_each_replica(self, config, replicas):
        """Yields the run at step 3, once for each replica that will be hit."""
        self.run = Run(config, replicas)
        for replica in range(replicas):
            self.replica.assign(replica)
            self.run.restart()
            _, went_well = self.run.train(3)
            assert went_well
            yield self.run


@pytest.fixture
def infinite_gradient(monkeypatch):
    return InfiniteGradient(monkeypatch)


@pytest.mark.parametrize(("replicas", "clip_norm"), [(1, 0.01), (2, 0.01), (4, 0.0)])
def test_an_infinite_gradient_skips_the_step_everywhere(
    infinite_gradient, replicas, clip_norm
):
    config = dataclasses.replace(
        CONFIGS["dense"],
        precision="mixed_float16",
        gradient_clip_norm=clip_norm,
        learning_rate_schedule="cosine",
    )
    for run in infinite_gradient.on_each_replica(config, replicas):
        before = run.weights()
        loss, went_well = run.train(1)
        assert went_well
        assert math.isnan(loss), "a skipped step must not count"
        np.testing.assert_array_equal(run.weights(), before)
        skipped = {"loss_scale": 2**14, "skipped_steps": 1}
        assert run.state.loss_scale.metrics() == skipped
        loss, went_well = run.train(4)
        assert went_well
        assert math.isfinite(loss)
        assert run.state.loss_scale.metrics() == skipped
        assert (run.weights() != before).any()
        assert all(
            np.isfinite(copy).all() for copies in run.copies() for copy in copies
        )
        assert_copies_are_equal(run)
        # Step, schedule and data continue; the optimizer counts only updates.
        assert int(run.state.step) == 8
        assert run.state.optimizer.iterations.numpy() == 7
        rate = config.learning_rate * (1 + math.cos(math.pi * 8 / TOTAL_STEPS)) / 2
        assert float(run.state.optimizer.learning_rate) == pytest.approx(rate)
        _, clean = next(iter(make_train_dataset(source(), config, 8)))
        following = run.strategy.experimental_local_results(next(run.batches)[1])
        np.testing.assert_array_equal(np.concatenate(following), clean)


def test_an_infinite_gradient_without_a_loss_scale_stops_the_run(infinite_gradient):
    """And the weights stay as they were."""
    for run in infinite_gradient.on_each_replica(CONFIGS["dense"], 2):
        before = run.weights()
        _, went_well = run.train(5)
        assert not went_well
        assert int(run.state.step) == 4
        assert_copies_are_equal(run)
        np.testing.assert_array_equal(run.weights(), before)


def test_a_gradient_that_is_never_finite_ends_at_the_smallest_scale(monkeypatch):
    """The scale is halved fifteen times from 2**15; then the run stops."""
    losses = objective.image_losses
    monkeypatch.setattr(
        objective, "image_losses", lambda *inputs: losses(*inputs) * math.nan
    )
    run = Run(dataclasses.replace(CONFIGS["dense"], precision="mixed_float16"), 2)
    _, went_well = run.train(30)
    assert not went_well
    assert int(run.state.step) == 16


@pytest.mark.parametrize("replicas", [1, 2])
def test_clipping_is_by_the_norm_of_the_summed_gradient(replicas):
    """With plain descent at rate 1 the weights move by just the limit."""
    config = dataclasses.replace(
        CONFIGS["dense"], optimizer="sgd", learning_rate=1.0, gradient_clip_norm=0.01
    )
    run = Run(config, replicas)
    before = run.weights()
    run.train(1)
    norm = means(run.state.totals)["gradient_norm"]
    assert norm > 0.02, "the test needs a gradient that is longer"
    assert np.linalg.norm(run.weights() - before) == pytest.approx(0.01, rel=1e-4)
    free = Run(dataclasses.replace(config, gradient_clip_norm=0.0), 1)
    free.train(1)
    expected = before + (free.weights() - before) * 0.01 / norm
    np.testing.assert_allclose(run.weights(), expected, atol=1e-7)


def test_a_short_gradient_is_not_clipped(shared_run):
    clipped = Run(dataclasses.replace(CONFIGS["dense"], gradient_clip_norm=1e6), 1)
    free = shared_run("dense", 1)
    clipped.train(3)
    free.train(3)
    np.testing.assert_array_equal(clipped.weights(), free.weights())


@pytest.mark.parametrize("count", [1, 19, 50])
def test_evaluation_on_four_replicas_is_exact_for_any_number_of_images(
    shared_run, count
):
    images = source(count)
    expected, found = (
        _evaluate(replicas)(
            distribute(
                run.strategy,
                lambda share: make_eval_dataset(images, CONFIGS["dense"], share),
            ),
            num_eval_batches(images, run.config),
        )
        for replicas in (1, 4)
        for run in [shared_run("dense", replicas)]
    )
    # SSIM is a difference of numbers near 1, so it is as exact as they are.
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)


@functools.cache
def _evaluate(replicas):
    run = _compiled_run("dense", replicas)
    metrics = model_metrics(run.state.autoencoder, run.config)
    return build_evaluate(metrics, run.strategy)


@pytest.mark.parametrize("replicas", [1, 2])
def test_training_and_evaluation_are_compiled_once(shared_run, replicas):
    """For all numbers of steps per call, and over several epochs."""
    run = shared_run("dense", replicas)
    for num_steps in (0, 3, 7, 1, 3):
        run.train(num_steps)
    assert run.loop.experimental_get_tracing_count() == 1
    traced = []
    metrics = model_metrics(run.state.autoencoder, run.config)

    def counted(batch):
        traced.append(batch.clean.shape)
        return metrics(batch)

    evaluate = build_evaluate(counted, run.strategy)
    dataset = distribute(
        run.strategy, lambda share: make_eval_dataset(source(), run.config, share)
    )
    for _ in range(3):
        evaluate(dataset, num_eval_batches(source(), run.config))
    assert traced == [(16 // replicas, *SHAPE)] * replicas


@pytest.mark.parametrize(
    ("name", "replicas"), [*((name, 1) for name in sorted(CONFIGS)), ("dense", 2)]
)
def test_xla_takes_the_same_steps(name, replicas):
    expected = steps_of_one_device(CONFIGS[name])
    run = Run(CONFIGS[name], replicas, use_xla=True)
    assert_same_steps(run.take_steps(starts=expected.starts), expected)
    assert run.loop.experimental_get_tracing_count() == 1


def test_xla_on_one_device_that_is_not_the_first(monkeypatch):
    """Its variables are not all on one device, so XLA does not compile whole steps."""
    only = STRATEGIES["mirrored"](Config(strategy="mirrored", devices="CPU:1"), None)
    monkeypatch.setattr(sys.modules[__name__], "strategy_of", lambda replicas: only)
    expected = steps_of_one_device(CONFIGS["dense"])
    run = Run(CONFIGS["dense"], 1, use_xla=True)
    assert_same_steps(run.take_steps(starts=expected.starts), expected)
