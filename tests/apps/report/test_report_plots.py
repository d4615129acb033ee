import math
import re

import numpy as np
import pytest
from reports import is_affine, path_of

from aelab.apps.report.curves import Curve
from aelab.apps.report.plots import Line, draw


def curve(values):
    """A curve of these values at steps 0, 1, ..."""
    steps = np.arange(float(len(values)))
    return Curve(steps, np.array(values), steps)


@pytest.mark.parametrize(("metric", "scale"), [("psnr", np.array), ("loss", np.log)])
def test_a_drawn_line_follows_its_curve(metric, scale):
    x, y = np.array([1.0, 2, 4, 8, 9]), np.array([0.5, 90, 0.7, 3, 40])
    other = Curve(x, y[::-1].copy(), x)
    lines = [Line(0, "train", Curve(x, y, x)), Line(1, "eval", other)]
    svg = draw(lines, metric, "epoch")
    for line, group in zip(lines, ("train-0", "eval-1"), strict=True):
        (points,) = path_of(svg, f"{metric}-{group}")
        assert is_affine(points[:, 0], line.curve.x)
        assert is_affine(points[:, 1], scale(line.curve.y))
        assert points[0, 0] < points[-1, 0]
        assert (points[0, 1] > points[1, 1]) == (line.curve.y[0] < line.curve.y[1])


@pytest.mark.parametrize("values", [[0.4, 0.3, 0.5], [0.0, 1, 100], [-1, 1, 100]])
def test_a_loss_within_few_decades_or_below_zero_has_a_linear_scale(values):
    svg = draw([Line(0, "eval", curve(values))], "loss", "step")
    (points,) = path_of(svg, "loss-eval-0")
    assert is_affine(points[:, 1], values)


@pytest.mark.parametrize(("peak", "scale"), [(0.1, np.log), (0.004, np.array)])
def test_the_scale_of_learning_rates_depends_on_their_peaks(peak, scale):
    x, falling = np.arange(4.0), np.array([0.003, 0.002, 0.001, 1e-12])
    lines = [Line(0, "train", Curve(x, falling, x))]
    lines.append(Line(1, "train", Curve(x, np.full(4, peak), x)))
    svg = draw(lines, "learning_rate", "step")
    (points,) = path_of(svg, "learning_rate-train-0")
    assert is_affine(points[:3, 1], scale(falling[:3]))


def test_a_gap_splits_a_line_and_an_isolated_point_is_a_dot():
    y = np.array([1, 2, math.nan, 5, math.nan, 3, 4])
    svg = draw([Line(0, "train", curve(y))], "psnr", "step")
    parts = path_of(svg, "psnr-train-0")
    assert [len(part) for part in parts if len(part) > 1] == [2, 2]
    group = svg.split('<g id="psnr-train-0">')[1].split("<g id=")[0]
    (dot,) = re.findall(r'<use [^>]*x="([\d.]+)"', group)
    step = parts[0][1, 0] - parts[0][0, 0]
    assert float(dot) == pytest.approx(parts[0][0, 0] + 3 * step, abs=0.01)


def test_two_plots_have_different_ids():
    line = Line(0, "eval", curve(np.arange(3.0)))
    ids = [set(re.findall(r'\bid="([^"]*)"', draw([line], n, "step"))) for n in "ab"]
    assert all(ids) and not ids[0] & ids[1]
    svg = draw([line], "a", "step")
    used = re.findall(r'(?:href="|url\()#([^")]*)', svg)
    assert used and set(used) <= ids[0]
