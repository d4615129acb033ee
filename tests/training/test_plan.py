import math

import pytest

from aelab.config import Config
from aelab.training.plan import Plan


def plan(examples, **fields):
    return Plan(Config(**fields), examples)


@pytest.mark.parametrize(
    ("examples", "batch_size", "epochs", "steps"),
    [(4443, 256, 50, 868), (100, 10, 3, 30), (101, 10, 1, 11), (10, 256, 3, 1)],
)
def test_epochs_become_steps_rounded_up(examples, batch_size, epochs, steps):
    assert plan(examples, batch_size=batch_size, epochs=epochs).total_steps == steps


def test_train_steps_override_epochs():
    assert plan(100, batch_size=10, epochs=3, train_steps=7).total_steps == 7


@pytest.mark.parametrize(
    ("examples", "batch_size", "every"),
    [(4443, 256, 1), (100, 10, 3), (101, 7, 2), (10, 256, 1), (1, 1, 1)],
)
def test_evaluations_are_at_the_ends_of_epochs_and_of_the_run(
    examples, batch_size, every
):
    made = plan(
        examples, batch_size=batch_size, train_steps=300, eval_every_epochs=every
    )
    ends = {
        math.ceil(epoch * every * examples / batch_size)
        for epoch in range(1, 300 * batch_size // (every * examples) + 2)
    }
    expected = {step for step in ends if step < 300} | {300}
    assert {s for s in range(301) if made.is_evaluation(s)} == expected


def test_log_entries_are_at_multiples_and_at_evaluations():
    made = plan(
        100, batch_size=10, epochs=3, log_every_steps=4, checkpoint_every_steps=7
    )
    lines = {step for step in range(31) if made.is_log_step(step)}
    assert lines == set(range(4, 31, 4)) | {10, 20, 30}
    assert [s for s in range(31) if made.is_checkpoint(s)] == [7, 14, 21, 28]


@pytest.mark.parametrize(("log", "checkpoint"), [(5, 0), (0, 11), (5, 11), (0, 0)])
def test_next_event_visits_every_event_once(log, checkpoint):
    every = {"log_every_steps": log, "checkpoint_every_steps": checkpoint}
    made = plan(101, batch_size=7, epochs=9, **every)
    step, met = 0, []
    while step < made.total_steps:
        step = made.next_event(step)
        met.append(step)
    events = [
        step
        for step in range(made.total_steps + 1)
        if made.is_log_step(step) or made.is_checkpoint(step)
    ]
    assert met == events


def test_epochs_of_a_step():
    made = plan(4443, batch_size=128, epochs=5)
    assert made.epoch(119) == pytest.approx(119 * 128 / 4443)
    assert made.completed_epochs(119) == 3
    assert made.completed_epochs(35) == 1
    assert made.completed_epochs(34) == 0


def test_a_profile_begins_and_ends_at_the_requested_steps():
    made = plan(100, batch_size=10, epochs=3, log_every_steps=0, profile_steps="4:7")
    assert [made.next_event(step) for step in (0, 4, 5, 7)] == [4, 7, 7, 10]
    assert [n for n in range(30) if made.is_profiled(n)] == [4, 5, 6]


def test_without_a_profile_nothing_happens_at_step_0():
    made = plan(100, batch_size=10, epochs=3, log_every_steps=0)
    assert made.next_event(0) == 10
    assert not any(made.is_profiled(step) for step in range(30))
