import numpy as np
import pytest

from aelab.data.sketch import SIDE, outline, soften, stroke

GRID = np.arange(SIDE, dtype=np.float32)
X, Y = np.broadcast_arrays(GRID[None, None, :], GRID[None, :, None])


def test_stroke_is_the_distance_to_a_segment():
    distance = stroke(X, Y, [(5.0, 10.0), (15.0, 10.0)])
    beyond = np.maximum(np.maximum(5 - X, X - 15), 0)
    np.testing.assert_allclose(distance, np.hypot(beyond, Y - 10), atol=1e-4)


@pytest.mark.parametrize("turn", [1, -1], ids=["clockwise", "anticlockwise"])
def test_outline_is_a_signed_distance(turn):
    corners = [(6.5, 4.5), (20.5, 4.5), (20.5, 15.5), (6.5, 15.5), (6.5, 4.5)][::turn]
    across, down = abs(X - 13.5) - 7, abs(Y - 10) - 5.5
    outside = np.hypot(np.maximum(across, 0), np.maximum(down, 0))
    expected = outside + np.minimum(np.maximum(across, down), 0)
    np.testing.assert_allclose(outline(X, Y, corners), expected, atol=1e-4)


def test_half_an_outline_equals_the_whole_one():
    half = [(0.0, 4.5), (7.0, 4.5), (7.0, 15.5), (0.0, 15.5)]
    whole = [(-7.0, 4.5), (7.0, 4.5), (7.0, 15.5), (-7.0, 15.5), (-7.0, 4.5)]
    x = X - 13
    np.testing.assert_allclose(
        outline(abs(x), Y, half), outline(x, Y, whole), atol=1e-4
    )


def test_outline_of_a_concave_shape():
    """A point in the notch of an L is outside it."""
    corners = [(2, 2), (20, 2), (20, 8), (8, 8), (8, 20), (2, 20), (2, 2)]
    distance = outline(X, Y, corners)[0]
    assert distance[14, 14] == pytest.approx(6)
    assert distance[5, 14] == pytest.approx(-3)
    assert distance[14, 5] == pytest.approx(-3)


def test_soften_cuts_the_inner_corners():
    line = soften([(0.0, 0.0), (10.0, 0.0), (10.0, 20.0)], cut=0.25)
    assert line == [(0.0, 0.0), (7.5, 0.0), (10.0, 5.0), (10.0, 20.0)]
