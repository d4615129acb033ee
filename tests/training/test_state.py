import dataclasses

import numpy as np
import pytest
from test_optimizers import FAULTY
from test_step import CONFIG, assert_same, new_state, train

from aelab.config.registry import OPTIMIZERS
from aelab.errors import UsageError
from aelab.models.dense import build_dense
from aelab.training.state import Progress, TrainState


def test_the_state_is_restored_from_its_arrays():
    state, _ = train(CONFIG, 5, 5)
    state.progress.record(5, 0.25, 0.0)
    arrays = state.arrays()
    other = new_state()
    other.assign(arrays)
    assert_same(other.arrays(), arrays)
    assert other.progress == state.progress


@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS) - FAULTY))
def test_every_variable_is_in_the_state(optimizer):
    config = dataclasses.replace(CONFIG, model="conv", encoding_dim=32)
    state = new_state(dataclasses.replace(config, optimizer=optimizer))
    variables = len(state.autoencoder.variables) + len(state.optimizer.variables)
    others = 1 + len(state.totals) + len(dataclasses.fields(Progress))
    others += len(state.loss_scale.variables())
    assert len(state.arrays()) == variables + others


def test_a_model_without_limits_has_no_cross_entropy():
    config = dataclasses.replace(CONFIG, model="resunet", encoding_dim=32)
    with pytest.raises(UsageError, match="--loss=bce contradicts --model=resunet"):
        TrainState(config, (16, 16, 1), 10)
    assert TrainState(dataclasses.replace(config, loss="mse"), (16, 16, 1), 10)


def test_whole_pictures_need_a_model_for_all_sizes(monkeypatch):
    def build(config, image_shape):
        return build_dense(config, image_shape)  # fails without the number of pixels

    monkeypatch.setattr("aelab.models.load", lambda *_: build)
    values = {"dataset": "images", "data_dir": "x", "whole_pictures": True}
    config = dataclasses.replace(CONFIG, model="mine:build", **values)
    with pytest.raises(UsageError, match="--whole_pictures contradicts --model=mine:b"):
        TrainState(config, (16, 16, 1), 10)


def test_averaged_weights_are_in_the_state_and_begin_as_the_weights():
    config = dataclasses.replace(CONFIG, weight_average=0.9)
    arrays = new_state(config).arrays()
    names = [name for name in arrays if name.startswith("model/")]
    assert len(names) == 4
    assert len(arrays) == len(new_state().arrays()) + 4
    for name in names:
        average = arrays[name.replace("model/", "average/")]
        np.testing.assert_array_equal(average, arrays[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("step"), "step"),
        (lambda a: a.update(unknown=np.zeros(1)), "unknown"),
        (lambda a: a.update(step=np.zeros(3, np.int64)), "step"),
        (lambda a: a.update(step=np.zeros((), np.int32)), "step"),
    ],
    ids=["missing", "unexpected", "shape", "dtype"],
)
def test_arrays_that_do_not_fit_are_refused_and_change_nothing(change, message):
    state, _ = train(CONFIG, 2, 2)
    before = state.arrays()
    arrays = new_state().arrays()
    change(arrays)
    with pytest.raises(ValueError, match=message):
        state.assign(arrays)
    assert_same(state.arrays(), before)


def test_progress_keeps_the_best_and_the_reference_of_early_stopping():
    progress = Progress()
    bests = [
        progress.record(step, loss, min_delta=0.1)
        for step, loss in [(1, 1.0), (2, 0.95), (3, 0.97), (4, 0.85), (5, 0.85)]
    ]
    assert bests == [True, True, False, True, False]
    assert (progress.best_step, progress.best_loss) == (4, 0.85)
    assert (progress.reference_step, progress.reference_loss) == (4, 0.85)
    assert progress.evaluated_step == 5
    assert not progress.record(6, 0.86, min_delta=0.1)
    assert progress.reference_step == 4


def as_format_1(state):
    """The arrays as release 0.1.0 wrote them: optimizer variables by position."""
    arrays = state.arrays()
    others = {n: a for n, a in arrays.items() if not n.startswith("optimizer/")}
    slots = [np.asarray(v.numpy()) for v in state.optimizer.variables]
    return others | {f"optimizer/{n:03}": slot for n, slot in enumerate(slots)}


@pytest.mark.parametrize("optimizer", ["adam", "adafactor", "nadam"])
def test_optimizer_variables_of_format_1_go_by_position(optimizer):
    config = dataclasses.replace(CONFIG, optimizer=optimizer)
    state, _ = train(config, 3, 3)
    other = new_state(config)
    other.assign(as_format_1(state))
    assert_same(other.arrays(), state.arrays())


def test_optimizer_variables_are_restored_by_name_in_any_order():
    state, _ = train(CONFIG, 3, 3)
    arrays = dict(reversed(state.arrays().items()))
    other = new_state()
    other.assign(arrays)
    assert_same(other.arrays(), state.arrays())


def test_a_new_total_starts_at_zero_and_an_unknown_one_is_ignored():
    state, _ = train(CONFIG, 3, 3)
    arrays = state.arrays()
    del arrays["totals/psnr"]
    arrays["totals/nonesuch"] = np.ones(2, np.float32)
    other = new_state()
    other.assign(arrays)
    expected = state.arrays() | {"totals/psnr": np.zeros(2, np.float32)}
    assert_same(other.arrays(), expected)
