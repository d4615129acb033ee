import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import DATA, EVALUATION, JSON, LINES, Page, make_run, report

from aelab.apps.report.results import evaluation
from aelab.apps.report.runs import Run
from aelab.config import FIELDS, Config, to_text


def test_the_overview_has_the_progress_of_each_run(tmp_path):
    line = {
        "step": 50,
        "epoch": 2.5,
        "split": "eval",
        "loss": 0.3,
        "psnr": 11,
        "ssim": 0,
    }
    speeds = [
        {"step": n, "epoch": n, "split": "train", "images_per_second": 1000.0 * n}
        for n in (1, 2, 9)
    ]
    page = Page(
        report(make_run(tmp_path / "run", [*LINES, line, *speeds]), axis="step")
    )
    assert page.table("", "last step")["run"] == {
        "last step": "50",
        "lowest eval loss": "0.25",
        "at step": "40",
        "PSNR, dB": "12.35",
        "SSIM": "0",
        "images/s, median": "2,000",
    }


def test_evaluations_with_the_same_rounded_epoch_are_distinguished_by_step(tmp_path):
    lines = [
        {"step": step, "epoch": 0.0001, "split": "eval", "loss": loss, "psnr": psnr}
        for step, loss, psnr in ((1, 0.5, 9), (2, 0.25, 12), (3, 0.75, 7))
    ]
    page = Page(report(make_run(tmp_path / "run", lines)))
    row = page.table("", "last epoch")["run"]
    assert (row["lowest eval loss"], row["PSNR, dB"]) == ("0.25", "12.00")


def test_differences_list_only_fields_that_differ(tmp_path):
    first = make_run(tmp_path / "a", config=Config(seed=1, learning_rate=0.003))
    second = make_run(tmp_path / "b", config=Config(seed=1, noise_stddev=0.5))
    values = json.loads((second / "config.json").read_text())
    del values["versions"]["keras"]
    (second / "config.json").write_text(json.dumps(values | {"new_field": 7}))
    keras = json.loads((first / "config.json").read_text())["versions"]["keras"]
    assert Page(report(first, second)).table("", "a", "b") == {
        "learning_rate": {"a": "0.003", "b": "0.001"},
        "noise_stddev": {"a": "0.0", "b": "0.5"},
        "versions keras": {"a": keras, "b": "\N{EN DASH}"},
        "new_field": {"a": "\N{EN DASH}", "b": "7"},
    }


def test_the_whole_configuration_is_shown_collapsed(tmp_path):
    config = Config(model="dense", encoding_dim=7, learning_rate=0.00123)
    html = report(make_run(tmp_path / "run", config=config))
    page = Page(html)
    table = page.table("", "value")
    for name in FIELDS:
        assert table[name] == {"value": to_text(getattr(config, name))}
    assert table["data train"] == {"value": DATA["train"]}
    assert table["data image_shape"] == {"value": "12, 16, 1"}
    assert html.index("<details>") < html.index("encoding_dim")
    assert "open" not in page.all("details")[0]
    assert "Differences" not in page.texts


def test_equal_configurations_have_no_differences(tmp_path):
    page = Page(report(make_run(tmp_path / "a"), make_run(tmp_path / "b")))
    assert re.search(r"Differences\s+None\.", page.texts)


def test_evaluations_of_all_runs_are_in_one_table(tmp_path):
    other = EVALUATION | {"step": 9, "checkpoint": "latest"}
    del other["input"]
    runs = [
        make_run(tmp_path / "a", evaluation=EVALUATION),
        make_run(tmp_path / "b", evaluation=other),
        make_run(tmp_path / "c"),
    ]
    table = Page(report(*runs)).table("", "PSNR, dB")
    metrics = {"PSNR, dB": "18.57", "SSIM": "0.7124", "MSE": "0.0139", "BCE": "0.29"}
    best = {"checkpoint": "best", "step": "1,234", "examples": "1,813"}
    assert table == {
        "a: input": {"PSNR, dB": "9.30", "SSIM": "0.2", "MSE": "0.117", "BCE": "0.9"}
        | best,
        "a: output": metrics | best,
        "b: output": metrics | best | {"checkpoint": "latest", "step": "9"},
    }


@pytest.mark.parametrize("keys", [("floors",), ("floors", "baselines")])
def test_baselines_and_sweeps_become_tables(tmp_path, keys):
    """An older evaluation has only the key `floors`; a newer one has both."""

    def level(noise):
        values = {"blur": {"psnr": 13.2, "sigma": 1.5}, "tv": {"psnr": 14, "weight": 2}}
        metrics = {"input": {"psnr": 9.0 + noise}, "output": {"psnr": 16.0}}
        return {
            **{"noise_stddev": noise, "images": 50},
            **metrics,
            **dict.fromkeys(keys, values),
        }

    more = {"trained": level(0.5), "sweep": [level(0.1), level(0.2)], "missing": []}
    more |= {"worst": [{"image": 3, "psnr": 5.0}], "note": "<quick>", "spread": None}
    run = make_run(tmp_path / "run", evaluation=EVALUATION | more)
    page = Page(report(run))
    columns = ["", "noise_stddev", "images", "PSNR, dB", "sigma", "weight"]
    trained, sweep = (t for t in page.tables if t[0] == columns)
    key = keys[-1]
    assert trained[1:] == [
        ["input", "0.5", "50", "9.50", "", ""],
        ["output", "0.5", "50", "16.00", "", ""],
        [f"{key} blur", "0.5", "50", "13.20", "1.5", ""],
        [f"{key} tv", "0.5", "50", "14", "", "2"],
    ]
    assert [row[:2] for row in sweep[1:]] == [
        [name, noise]
        for noise in ("0.1", "0.2")
        for name in ("input", "output", f"{key} blur", f"{key} tv")
    ]
    assert [["image", "PSNR, dB"], ["3", "5.00"]] in page.tables
    assert "run: note: <quick>" in page.texts
    assert "missing" not in page.texts and "spread" not in page.texts


def test_the_spread_has_titles_and_units(tmp_path):
    spread = {"output": {"psnr_median": 18.456, "psnr_worst_percent": 9.0}}
    run = make_run(tmp_path / "run", evaluation=EVALUATION | {"spread": spread})
    columns = ["", "PSNR, dB, median", "PSNR, dB, worst 1%"]
    assert [columns, ["output", "18.46", "9.00"]] in Page(report(run)).tables


def test_an_evaluation_of_other_images_is_reported(tmp_path):
    other = EVALUATION | {"data": {"fingerprint": "x", "as_in_training": False}}
    page = Page(report(make_run(tmp_path / "run", evaluation=other)))
    assert "evaluation.json is of other images" in page.texts


@given(st.dictionaries(st.sampled_from([*EVALUATION, "a", "<b>"]), JSON))
def test_any_evaluation_is_shown(values):
    page = Page(evaluation([Run("", "run", {}, {}, [], values, [])]))
    allowed = {"div", "table", "thead", "tbody", "tr", "th", "td", "h3", "p"}
    assert {name for name, _ in page.elements} <= allowed
