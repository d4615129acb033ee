import io
import math

import numpy as np
import pytest
from made_up import run, variant
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from aelab.apps.study.plot import draw_study
from aelab.apps.study.results import VariantResult
from aelab.apps.study.state import DIVERGED, STARTED, Curve
from aelab.apps.study.statistics import mean_interval, summarize

GRAY = "#a9b1ba"


@pytest.fixture
def draw(monkeypatch):
    """Returns the two panels of a picture, which is a PNG."""
    figures, save = [], Figure.savefig

    def savefig(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)

    def draw(variants, metric="psnr", on_test=False):
        content = draw_study(variants, metric, variants[0].name, on_test)
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            assert picture.format == "PNG" and 1000 < picture.width < 2000
        return figures.pop().axes

    return draw


def curve(values, start=1):
    """A curve over the epochs `start`, `start` + 1, ..., with the last as the best."""
    epochs = [float(start + i) for i in range(len(values))]
    return Curve({"psnr": values[-1]}, epochs, {"psnr": values}, np.nan)


def curves(name, *values, kind="finished"):
    runs = [run(i, kind, curve=curve(each)) for i, each in enumerate(values)]
    return VariantResult(name, {}, runs)


def colors_of(lines):
    return [to_hex(line.get_color()) for line in lines]


def test_each_seed_is_a_point_beside_mean_and_interval(draw):
    values = [18.0, 18.5, 18.2]
    left, _ = draw([variant("a", values), variant("b", [19.0])])
    interval, mean, points, other = left.lines
    np.testing.assert_allclose(points.get_xdata(), values)
    assert list(points.get_ydata()) == [0, 0, 0] and list(other.get_ydata()) == [1]
    np.testing.assert_allclose(mean.get_xdata(), np.mean(values))
    np.testing.assert_allclose(interval.get_xdata(), mean_interval(summarize(values)))
    assert [text.get_text() for text in left.get_yticklabels()] == ["a", "b"]
    assert left.get_xlabel() == "PSNR, dB"
    top, bottom = (left.transData.transform((18, row))[1] for row in (0, 1))
    assert top > bottom


def test_a_curve_is_the_mean_of_the_seeds_in_the_band_of_their_range(draw):
    _, right = draw([curves("a", [1.0, 2.0, 6.0], [3.0, 6.0]), curves("b", [4.0])])
    first, second = right.lines
    np.testing.assert_allclose(first.get_xydata(), [[1, 2], [2, 4], [3, 6]])
    np.testing.assert_allclose(second.get_xydata(), [[1, 4]])
    assert second.get_marker() == "o"
    corners = right.collections[0].get_paths()[0].vertices
    for corner in ([1, 1], [1, 3], [2, 2], [2, 6], [3, 6]):
        assert any(np.allclose(corner, other) for other in corners), corner


def test_seeds_with_other_epochs_are_interpolated(draw):
    runs = [
        run(0, curve=curve([1.0, 3.0])),
        run(1, curve=Curve({}, [1, 1.5, 2], {"psnr": [3.0, 4.0, 7.0]}, np.nan)),
    ]
    _, right = draw([VariantResult("a", {}, runs)])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [2, 3, 5])


def test_a_diverged_seed_does_not_change_the_curve_of_the_others(draw):
    runs = [run(0, curve=curve([1.0, 2.0])), run(1, DIVERGED, curve=curve([9.0, 1e9]))]
    left, right = draw(
        [VariantResult("a", {}, runs), curves("b", [5.0, math.nan, 7.0], kind=DIVERGED)]
    )
    np.testing.assert_allclose(right.lines[0].get_ydata(), [1, 2])
    np.testing.assert_allclose(right.lines[1].get_xydata(), [[1, 5], [3, 7]])
    labels = [text.get_text() for text in left.get_yticklabels()]
    assert labels[0] == "a\n(1 of 2 diverged, at step 1000)"
    assert labels[1] == "b\n(diverged at step 1000)"


@pytest.mark.parametrize("count", [2, 6, 7, 30])
def test_a_name_has_the_color_of_its_curve(draw, count):
    better = [curves(f"v{i}", [1.0, 2.0 + i]) for i in range(count)]
    left, right = draw(better)
    points = colors_of(left.lines)
    curve_colors = dict(
        zip(
            [line.get_ydata()[1] - 2 for line in right.lines],
            colors_of(right.lines),
            strict=True,
        )
    )
    colored = [i for i in range(count) if points[i] != GRAY]
    best = range(count - 5, count) if count > 6 else range(count)
    assert set(colored) == {0, *best}
    assert len({points[i] for i in colored}) == len(colored)
    for i, text in enumerate(left.get_yticklabels()):
        assert curve_colors[i] == points[i]
        assert (to_hex(text.get_color()) == points[i]) == (i in colored)
    assert ("In color" in right.get_title(loc="left")) == (count > 6)


def test_the_lowest_loss_is_the_best(draw):
    runs = [[run(0, loss=0.1 * i)] for i in range(8)]
    left, _ = draw([VariantResult(f"v{i}", {}, r) for i, r in enumerate(runs)], "loss")
    assert [color != GRAY for color in colors_of(left.lines)] == [True] * 6 + [
        False
    ] * 2


def test_the_metrics_of_the_test_part_are_marked(draw):
    tested = [run(seed, tested={"psnr": 17.0 + seed}, psnr=18.0) for seed in range(2)]
    left, _ = draw([VariantResult("a", {}, tested), variant("b", [18.0])], on_test=True)
    assert left.get_xlabel() == "PSNR, dB (test part)"
    assert list(left.lines[2].get_xdata()) == [17, 18]


def test_a_study_without_results_has_a_picture(draw):
    left, right = draw([VariantResult("a", {}, [run(0, STARTED)])])
    assert left.texts[0].get_text() == "no run has finished yet"
    assert right.texts[0].get_text() == "no evaluation yet"


def test_the_wide_interval_of_two_seeds_does_not_squeeze_the_points(draw):
    left, _ = draw([variant("a", [18.0, 18.2]), variant("b", [18.1])])
    low, high = left.get_xlim()
    assert 17.7 < low < 18.0 and 18.2 < high < 18.5
    arrows = [line for line in left.lines if line.get_marker() in ("<", ">")]
    assert [line.get_marker() for line in arrows] == ["<", ">"]
    left, _ = draw([variant("a", [18.0, 18.2, 18.1]), variant("b", [18.1])])
    assert not [line for line in left.lines if line.get_marker() in ("<", ">")]


def test_the_steep_beginning_of_curves_is_cut_off(draw):
    _, right = draw([curves("a", [0.0, 9.0, *np.linspace(18, 19, 10)])])
    assert 17.5 < right.get_ylim()[0] < 18 and 19 < right.get_ylim()[1] < 19.5


def test_long_names_are_wrapped(draw):
    name = ",".join(f"learning_rate={i}" for i in range(14))
    left, _ = draw([variant(name, [18.0])])
    lines = left.get_yticklabels()[0].get_text().split("\n")
    assert len(lines) == 3 and max(map(len, lines)) <= 36 and lines[2].endswith("...")
