"""Compares two training loops step by step, each step from the same state.

Training amplifies rounding: weights that differ in the last bit differ by much more
after some tens of steps, and by how much depends on the processor. So no step begins
where the one before it ended, but where the reference's began, and what differs is the
rounding of a single step.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aelab.metrics import means

_COMPARED = ("model/", "optimizer/")
# Rarely, rounding tips a ReLU or the choice of a pooling layer over to the other side,
# which can change the gradient of a small kernel by a percent. So the exact comparison
# is of the median step.
_EACH_STEP = 0.05


class Steps(NamedTuple):
    """Training steps: the arrays before and after each one, and its mean loss."""

    starts: list[dict[str, np.ndarray]]
    ends: list[dict[str, np.ndarray]]
    losses: list[float]


def compared(arrays):
    """The weights and the optimizer's variables among the arrays of a state."""
    return {name: a for name, a in arrays.items() if name.startswith(_COMPARED)}


def take_steps(state, loop, batches, count, starts=None):
    """Takes `count` training steps, each from `starts[number]` if these are given."""
    steps = Steps([], [], [])
    for number in range(count):
        if starts:
            state.assign(state.arrays() | starts[number])
        steps.starts.append(compared(state.arrays()))
        state.totals["loss"].assign([0.0, 0.0])
        assert loop(batches, tf.constant(1, tf.int64))
        steps.ends.append(compared(state.arrays()))
        steps.losses.append(means(state.totals)["loss"])
    return steps


def updates(steps):
    """How each step moved the weights: float64 [steps, weights]."""
    return np.array(
        [
            np.concatenate(
                [
                    (end[name].astype(np.float64) - start[name]).ravel()
                    for name in start
                    if name.startswith("model/")
                ]
            )
            for start, end in zip(steps.starts, steps.ends, strict=True)
        ]
    )


def _error(name, start, found, expected):
    """The distance of two arrays, relative to what rounding is relative to.

    That is the update's length for weights, and the value itself for the optimizer's
    variables, of which some are moving averages that change by a thousandth.
    """
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    base = start if name.startswith("model/") else np.zeros_like(start)
    distance, length = (
        np.linalg.norm(found - expected),
        np.linalg.norm(expected - base),
    )
    return distance / length if distance else 0.0


def assert_same_steps(found, expected, tolerance=1e-5):
    """Each step from the same state has the same loss and makes the same update.

    Args:
      found: steps that began where the expected ones did.
      expected: the reference's.
      tolerance: of losses; and of updates in proportion to their lengths, in the
        median over the steps.
    """
    assert len(found.losses) == len(expected.losses) > 0
    np.testing.assert_allclose(found.losses, expected.losses, rtol=tolerance)
    assert (np.linalg.norm(updates(expected), axis=1) > 0).all()
    for name in expected.ends[0]:
        errors = [
            _error(name, start[name], mine[name], theirs[name])
            for start, mine, theirs in zip(
                expected.starts, found.ends, expected.ends, strict=True
            )
        ]
        assert np.median(errors) <= tolerance, name
        assert max(errors) <= _EACH_STEP, name
