import dataclasses

import numpy as np
import pytest
from test_optimizers import FAULTY
from test_step import CONFIG, assert_same, new_state, train

from aelab.training.optimizers import OPTIMIZERS
from aelab.training.state import Progress


def test_state_goes_through_arrays():
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
    variables = len(state.model.variables) + len(state.optimizer.variables)
    others = 1 + len(state.totals) + len(dataclasses.fields(Progress))
    others += len(state.loss_scale.variables())
    assert len(state.arrays()) == variables + others


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("step"), "step"),
        (lambda a: a.update(odd=np.zeros(1)), "odd"),
        (lambda a: a.update(step=np.zeros(3, np.int64)), "step"),
        (lambda a: a.update(step=np.zeros((), np.int32)), "step"),
    ],
    ids=["missing", "superfluous", "shape", "dtype"],
)
def test_arrays_that_do_not_fit_are_refused_and_change_nothing(change, message):
    state, _ = train(CONFIG, 2, 2)
    before = state.arrays()
    arrays = new_state().arrays()
    change(arrays)
    with pytest.raises(ValueError, match=message):
        state.assign(arrays)
    assert_same(state.arrays(), before)


def test_progress_keeps_the_best_and_what_early_stopping_waits_for():
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
