import math

import numpy as np
import pytest
from scipy import stats

from aelab.apps.study.statistics import (
    Summary,
    holm,
    mean_interval,
    paired_difference,
    summarize,
)
from aelab.errors import UsageError
from aelab.system import optional

NAN = math.nan


def by_seed(values):
    return dict(enumerate(values))


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_paired_difference_equals_that_of_scipy(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(18.7, 0.2, n), rng.normal(18.5, 0.2, n)
    found = paired_difference(by_seed(a), by_seed(b))
    test = stats.ttest_rel(a, b)
    interval = stats.t.interval(0.95, n - 1, (a - b).mean(), stats.sem(a - b))
    assert found.n == n
    np.testing.assert_allclose(found.mean, (a - b).mean())
    np.testing.assert_allclose(found.p, test.pvalue)
    np.testing.assert_allclose([found.low, found.high], interval)
    np.testing.assert_allclose(
        [found.low, found.high], test.confidence_interval(0.95), rtol=1e-9
    )


def test_mean_and_standard_deviation_equal_those_of_numpy():
    values = [18.1, 18.4, 18.9]
    found = summarize(values)
    assert found == (3, np.mean(values), np.std(values, ddof=1))
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    np.testing.assert_allclose(mean_interval(found), expected)


def test_values_that_are_not_finite_are_left_out():
    assert summarize([NAN, 1.0, math.inf, 3.0])[:2] == (2, 2.0)
    found = paired_difference(
        {0: 2.0, 1: 4.0, 2: NAN, 3: 7.0, 5: 9.0},
        {0: 1.0, 1: 2.0, 2: 1.0, 3: -math.inf, 4: 1.0},
    )
    assert found[:2] == (2, 1.5)
    assert found.p == pytest.approx(stats.ttest_rel([2, 4], [1, 2]).pvalue)


def test_seeds_are_paired_by_their_number_and_not_by_their_order():
    found = paired_difference({1: 5.0, 0: 1.0}, {0: 0.0, 1: 3.0})
    assert found.mean == 1.5


def test_one_seed_gives_no_interval_and_none_gives_no_mean():
    np.testing.assert_equal(summarize([2.0]), (1, 2.0, NAN))
    np.testing.assert_equal(summarize([]), (0, NAN, NAN))
    np.testing.assert_equal(mean_interval(Summary(1, 2.0, NAN)), (NAN, NAN))
    one = paired_difference({0: 3.0}, {0: 1.0})
    np.testing.assert_equal(one, (1, 2.0, NAN, NAN, NAN))
    none = paired_difference({0: 3.0, 1: 4.0}, {0: NAN})
    np.testing.assert_equal(none, (0, NAN, NAN, NAN, NAN))


def test_equal_differences_have_an_interval_without_length():
    same = by_seed([1.0, 2.0, 4.0])
    assert paired_difference(same, same) == (3, 0, 0, 0, 1)
    shifted = {seed: value + 0.5 for seed, value in same.items()}
    assert paired_difference(shifted, same) == (3, 0.5, 0.5, 0.5, 0)


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        # By hand: the smallest times 4, the next times 3, ..., never decreasing.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02], [0.02]),
        ([0.5, 0.6, 0.02], [1.0, 1.0, 0.06]),
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
        ([0.03, NAN, 0.02], [0.04, NAN, 0.04]),
        ([NAN], [NAN]),
        ([], []),
    ],
)
def test_holm_corrects_by_steps(given, corrected):
    np.testing.assert_allclose(holm(given), corrected)


def test_holm_rejects_as_its_definition_says():
    """Going up from the smallest p, it rejects until one is above alpha / (m - k)."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.choice([0.001, 0.01, 0.02, 0.04, 0.2, 1.0], rng.integers(1, 8))
        limits = 0.05 / np.arange(len(values), 0, -1)
        order = np.argsort(values, kind="stable")
        rejected = np.zeros(len(values), bool)
        rejected[order] = np.cumprod(values[order] < limits)
        # Equal p values get the same verdict.
        rejected = [any(rejected[values == value]) for value in values]
        assert [p < 0.05 for p in holm(values)] == rejected


def test_a_missing_scipy_is_named_with_the_command_that_installs_it(monkeypatch):
    def fail(name):
        raise ImportError(name)

    monkeypatch.setattr(optional.importlib, "import_module", fail)
    assert paired_difference({0: 3.0}, {0: 1.0}).mean == 2
    with pytest.raises(UsageError, match=r"scipy: .*\[study\]"):
        paired_difference(by_seed([1.0, 2.0]), by_seed([1.0, 3.0]))
