import dataclasses

import pytest

from aelab import metric_info
from aelab.apps.evaluation.result import EvaluatedData, Evaluation, Level
from aelab.apps.evaluation.table import result_text, table
from aelab.metric_info import METRICS, MetricInfo


def metrics(psnr, ssim=0.5, **others):
    spread = {"psnr_median": psnr + 0.1, "psnr_worst_percent": psnr - 5}
    return {"psnr": psnr, "ssim": ssim, "mse": 0.1, "bce": 0.3} | spread | others


def level(stddev, output, linear=17.2, **changes):
    fields = {
        "corruption": f"gaussian (noise_stddev {stddev})",
        "noise_stddev": stddev,
        "images": 1813,
        "input": metrics(9.3, 0.2),
        "output": output,
        "baselines": {
            "blur": metrics(13.27, sigma=1.42),
            "total_variation": metrics(13.36, weight=0.57),
            "linear": metrics(linear, 0.55, components=128),
        },
        "search_images": 83,
        "training_images": 4443,
    }
    return Level(**fields | changes)


def result(output, **changes):
    """An evaluation with a sweep of two levels; 0.5 is the level of training."""
    trained = level(0.5, output)
    spread = {k: output[k] for k in ("psnr_median", "psnr_worst_percent")}
    fields = {
        "checkpoint": "best",
        "step": 6943,
        "split": "test",
        "examples": 1813,
        "data": EvaluatedData("1813 images", True),
        "metrics": {k: v for k, v in output.items() if k not in spread},
        "input": metrics(9.3, 0.2),
        "spread": {"input": dict.fromkeys(spread, 1.0), "output": spread},
        "worst": [],
        "trained": trained,
        "sweep": [level(0.1, metrics(18.0, 0.56), 20.4), trained],
        "missing": [],
        "unlearned": [],
        "pictures": ["evaluation-worst.png", "evaluation-sweep.png"],
    }
    return Evaluation(**fields | changes)


def line(text, start, number=0):
    return [n for n in text.splitlines() if n.startswith(start)][number]


@pytest.mark.parametrize(
    ("psnr", "text"),
    [
        (18.78, "1.58 dB above linear estimator"),
        (16.8, "0.40 dB BELOW linear estimator"),
        (float("nan"), "nan dB BELOW linear estimator"),
    ],
)
def test_the_output_is_compared_with_the_best_baseline(psnr, text):
    assert result_text(level(0.5, metrics(psnr)), "psnr") == text
    assert text in table(result(metrics(psnr)))


def test_psnr_and_ssim_are_compared_separately():
    text = table(result(metrics(18.78, 0.5)))
    assert "PSNR of the output: 1.58 dB above linear estimator." in text
    assert "SSIM of the output: 0.0500 BELOW linear estimator." in text


def test_only_a_corrupted_input_is_compared_with_the_output():
    noisy = level(0.5, metrics(9.0), baselines={})
    assert result_text(noisy, "psnr") == "0.30 dB BELOW input"
    clean = dataclasses.replace(noisy, input=metrics(100.0, 1.0, mse=0.0))
    assert result_text(clean, "psnr") == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2, "0.10 px below linear estimator"),
        (0.4, "0.10 px ABOVE linear estimator"),
        (float("nan"), "nan px ABOVE linear estimator"),
    ],
)
def test_a_new_metric_is_shown_in_its_own_digits_unit_and_direction(
    monkeypatch, value, text
):
    row = MetricInfo("Shift", "", "px", ".2f", better="lower", function="module:shift")
    monkeypatch.setitem(metric_info.METRICS, "shift", row)
    baselines = {
        "linear": metrics(17.2, shift=0.3, components=8),
        "blur": metrics(13.27, shift=0.35, sigma=1.42),
    }
    noisy = {"input": metrics(9.3, shift=0.5), "baselines": baselines}
    output = metrics(18.78, shift=value)
    trained = level(0.5, output, **noisy)
    evaluation = result(output, input=noisy["input"], trained=trained, sweep=[trained])
    page = table(evaluation)
    assert f"Shift of the output: {text}." in page
    assert "Shift, px, by noise" in page
    titles = page.splitlines()[3]
    end = titles.index("Shift, px") + len("Shift, px")
    assert line(page, "linear estimator")[:end].endswith(" 0.30")
    assert line(page, "output")[:end].endswith(f" {value:.2f}")


def test_a_metric_that_was_not_evaluated_is_not_shown(monkeypatch):
    row = METRICS["ssim"]._replace(title="Absent")
    monkeypatch.setitem(metric_info.METRICS, "absent", row)
    assert "Absent" not in table(result(metrics(18.78)))


def test_baselines_are_listed_between_input_and_output():
    text = table(result(metrics(18.78)))
    rows = text.splitlines()
    first = rows.index(line(text, "input"))
    names = [row[:21].strip() for row in rows[first : first + 5]]
    assert names == [
        *("input", "Gaussian blur", "total variation", "linear estimator", "output")
    ]
    assert line(text, "output").split() == [
        *("output", "18.78", "18.88", "13.78", "0.5000", "0.1000", "0.3000")
    ]
    assert line(text, "Gaussian blur").endswith("sigma 1.42")
    assert line(text, "linear estimator").endswith("128 numbers")
    assert "83 of the evaluated images" in text.replace("\n", " ")


def test_the_sweep_has_a_row_for_each_level():
    text = table(result(metrics(18.78, 0.6)))
    for number, psnr in enumerate(("20.40", "0.5500")):
        row = line(text, "0.1 ", number).split()
        assert row[4] == psnr
    assert line(text, "0.1 ").endswith("2.40 dB BELOW linear estimator")
    assert line(text, "0.5*").endswith("1.58 dB above linear estimator")


def test_lines_have_at_most_88_columns_and_no_trailing_space():
    text = table(result(metrics(18.78), missing=["skimage", "sklearn"]))
    for row in text.splitlines():
        assert len(row) <= 88 and row == row.rstrip()


def test_a_limited_number_of_images_is_reported():
    text = table(result(metrics(18.78), examples=10_000))
    assert "of the first 1,813 images" in text
    assert "of the first 1,813 images" not in table(result(metrics(18.78)))


def test_images_that_the_run_was_not_evaluated_on_are_reported():
    heads = [
        table(result(metrics(18.78), data=EvaluatedData("", same))).split("\n\n")[0]
        for same in (True, None, False)
    ]
    for head in heads[:2]:
        assert "1,813 test images that the model never saw" in head
        assert "may have seen" not in head
    assert "The run was evaluated on other images, so it may have seen" in heads[2]
    assert "never saw" not in heads[2]


def test_a_level_that_was_given_as_a_quotient_fits_into_its_column():
    trained = level(25 / 255, metrics(18.0))
    page = table(result(metrics(18.0), trained=trained, sweep=[trained]))
    assert "\n0.09804*      9.30" in page
