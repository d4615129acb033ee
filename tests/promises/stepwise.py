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
# Rarely, rounding tips a ReLU, the choice of a pooling layer or the sign of a gradient
# over to the other side. So the exact comparison is of the median step, and each step
# is compared as far as that can matter to it.
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
    """The distance of two arrays, in proportion to the length of the update.

    For the optimizer's variables in proportion to the value: some are moving averages
    that change by a thousandth.
    """
    base = start if name.startswith("model/") else 0.0
    distance = np.linalg.norm(np.subtract(found, expected, dtype=np.float64))
    length = np.linalg.norm(np.subtract(expected, base, dtype=np.float64))
    return distance / length if distance else 0.0


def assert_same_steps(found, expected, tolerance=1e-5):
    """Each step from the same state has the same loss and makes the same update.

    Args:
      found: steps that began where the expected ones did.
      expected: the steps of the reference.
      tolerance: for the relative error of each loss, and of the update of each variable
        in the median over the steps.
    """
    assert len(found.losses) == len(expected.losses) > 0
    np.testing.assert_allclose(found.losses, expected.losses, rtol=tolerance)
    for mine, theirs in zip(updates(found), updates(expected), strict=True):
        assert np.linalg.norm(theirs) > 0
        assert np.linalg.norm(mine - theirs) <= _EACH_STEP * np.linalg.norm(theirs)
    ends = list(zip(expected.starts, found.ends, expected.ends, strict=True))
    for name in expected.ends[0]:
        errors = [_error(name, *(arrays[name] for arrays in end)) for end in ends]
        assert np.median(errors) <= tolerance, name
