import math

import pytest
from made_up import run, variant

from aelab import metric_info
from aelab.apps.study.results import VariantResult
from aelab.apps.study.state import DIVERGED, MISSING, STARTED
from aelab.apps.study.statistics import Difference, Summary
from aelab.apps.study.wording import caption, count_text, difference_text, mean_text
from aelab.metric_info import MetricInfo

NAN = math.nan


def words(metric, mean, low, high, p, n=3):
    return difference_text(metric, Difference(n, mean, low, high, p), p)


@pytest.mark.parametrize(
    ("metric", "given", "text"),
    [
        ("psnr", (0.21, 0.15, 0.27, 0.01), "better by 0.21 dB (0.15 to 0.27)"),
        ("psnr", (-0.21, -0.27, -0.15, 0.01), "worse by 0.21 dB (0.15 to 0.27)"),
        ("loss", (0.2, 0.1, 0.3, 0.01), "worse by 0.2000 (0.1000 to 0.3000)"),
        ("loss", (-0.2, -0.3, -0.1, 0.01), "better by 0.2000 (0.1000 to 0.3000)"),
        ("my_metric", (-0.2, -0.3, -0.1, 0.01), "lower by 0.2000 (0.1000 to 0.3000)"),
        ("gradient_norm", (1, 0.5, 1.5, 0.01), "higher by 1.0000 (0.5000 to 1.5000)"),
        (
            "psnr",
            (0.015, -0.02, 0.05, 0.3),
            "no difference seen with 3 seeds (-0.02 to 0.05 dB)",
        ),
        ("psnr", (0, 0, 0, 1.0), "no difference seen with 3 seeds (0.00 to 0.00 dB)"),
    ],
)
def test_a_difference_is_a_claim_only_with_a_small_p(metric, given, text):
    assert words(metric, *given) == text


def test_the_corrected_p_decides_even_if_the_interval_excludes_0():
    difference = Difference(3, 0.2, 0.1, 0.3, 0.03)
    text = "no difference seen with 3 seeds after correction (0.10 to 0.30 dB)"
    assert difference_text("psnr", difference, 0.06) == text
    assert difference_text("psnr", difference, 0.05) == text
    assert difference_text("psnr", difference, 0.0499).startswith("better by 0.20 dB")


def test_a_number_is_never_rounded_to_0():
    text = words("psnr", 0.003, 0.0012, 0.0048, 0.01)
    assert text == "better by 0.003 dB (0.001 to 0.005)"
    text = words("psnr", 0.003, -0.001, 0.02, 0.3)
    assert text == "no difference seen with 3 seeds (-0.001 to 0.02 dB)"


@pytest.mark.parametrize("n", [0, 1])
def test_without_two_seeds_nothing_is_said(n):
    assert words("psnr", 5.0, NAN, NAN, NAN, n) == ""


@pytest.mark.parametrize("unit", ["", "px"])
def test_a_new_metric_is_shown_in_its_own_digits_unit_and_direction(monkeypatch, unit):
    row = MetricInfo("Shift", "", unit, ".1f", better="lower")
    monkeypatch.setitem(metric_info.METRICS, "shift", row)
    suffix = f" {unit}" if unit else ""
    text = f"better by 2.0{suffix} (1.0 to 3.0)"
    assert words("shift", -2.0, -3.0, -1.0, 0.01) == text


def of(*kinds):
    runs = [run(n, kind, 100 * (n + 1), psnr=18.0) for n, kind in enumerate(kinds)]
    return VariantResult("x", {}, runs)


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        (["finished"] * 3, "3"),
        (["finished"], "1"),
        (["finished", STARTED, "finished"], "2 of 3 seeds"),
        ([MISSING], "0 of 1 seed"),
        (["finished", DIVERGED, "finished"], "1 of 3 diverged, at step 200"),
        ([DIVERGED, "finished", DIVERGED], "2 of 3 diverged, at steps 100, 300"),
        ([DIVERGED], "diverged at step 100"),
        (
            ["finished", DIVERGED, MISSING],
            "1 of 3 seeds; 1 of 3 diverged, at step 200",
        ),
        ([], "0"),
    ],
)
def test_seeds_are_counted(kinds, text):
    assert count_text(of(*kinds)) == text


def test_a_mean_is_given_with_its_deviation_or_with_the_reason_why_not():
    three = variant("x", [18.0, 18.1, 18.2])
    assert mean_text(three, "psnr", Summary(3, 18.1, 0.1), False) == "18.10 ± 0.10"
    assert mean_text(three, "psnr", Summary(1, 18, NAN), True) == "18.00 (1 of 3)"
    assert mean_text(three, "psnr", Summary(3, 18, 1e-4), False) == "18.00 ± 0.0001"
    none = Summary(0, NAN, NAN)
    assert mean_text(three, "psnr", none, True) == "not evaluated"
    assert mean_text(three, "psnr", none, False) == "not known"
    assert mean_text(of(DIVERGED), "psnr", none, False) == "diverged at step 100"
    assert mean_text(of(STARTED, MISSING), "psnr", none, False) == ""
    one = Summary(1, 18.0, NAN)
    assert mean_text(of(DIVERGED, "finished"), "psnr", one, False) == "18.00"


def test_the_caption_says_what_was_compared_and_how():
    some, none = Difference(3, 1.0, 0.0, 2.0, 0.05), Difference(1, 1.0, NAN, NAN, NAN)
    text = caption("the test part", 3, "a", [[none, some, some]], False)
    assert "the test part" in text and "3 seeds" in text and "from a " in text
    assert "Holm for 2 variants;" in text and "looks better" not in text
    assert "Holm" not in caption("the test part", 3, "a", [[none, some]], False)
    separately = caption("the test part", 3, "a", [[some, some]] * 2, False)
    assert "Holm for 2 variants, for each metric separately;" in separately
    assert "One seed" in caption("the test part", 1, "a", [[none]], False)
    assert "No variant has two seeds" in caption("x", 3, "a", [[none]], False)
    assert "looks better on validation" in caption("x", 3, "a", [[some]], True)
