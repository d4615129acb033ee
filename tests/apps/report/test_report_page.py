import base64
import json
import re

import numpy as np
import pytest
from reports import EVALUATION, LINES, Page, is_affine, make_run, path_of, png, report

from aelab.apps.report import write_report
from aelab.apps.report.curves import MAX_POINTS
from aelab.apps.report.plots import MAX_RUNS
from aelab.config import Config
from aelab.errors import UsageError


def test_each_plot_has_all_runs(tmp_path):
    runs = [make_run(tmp_path / name, LINES) for name in ("one", "two", "three")]
    html = report(*runs)
    page = Page(html)
    captions = re.findall(r"<figcaption>([^<]*)</figcaption>", html)
    assert captions == ["Loss", "PSNR, dB", "SSIM", "Gradient norm"]
    for number in range(3):
        (points,) = path_of(html, f"loss-train-{number}")
        assert is_affine(points[:, 0], [0.5, 1, 1.5, 2])
        assert is_affine(points[:, 1], [0.5, 0.4, 0.3, 0.2])
        assert len(path_of(html, f"psnr-eval-{number}")[0]) == 2
    assert [a["aria-label"] for a in page.all("svg") if "role" in a] == captions
    for name in ("one", "two", "three"):
        assert f"</svg>{name}</li>" in html


def test_the_first_and_the_newest_picture_of_each_tag_are_embedded(tmp_path):
    run = make_run(tmp_path / "run", panels=(7, 20, 100))
    images = run / "images"
    for name, gray in (("a-b-00000005", 1), ("code<-00000010", 2), ("code<-9", 3)):
        (images / f"{name}.png").write_bytes(png(gray))
    (images / ".tmp-panel-00000200.png").write_bytes(b"incomplete")
    (images / "panel-none.png").write_bytes(b"other")
    html = report(run, make_run(tmp_path / "one", panels=(3,)))
    pictures = Page(html).all("img")
    prefix = "data:image/png;base64,"
    contents = [base64.b64decode(a["src"].removeprefix(prefix)) for a in pictures]
    assert contents == [png(gray) for gray in (1, 3, 2, 7, 100, 3)]
    captions = re.findall(r"<figcaption>([^<]*, step [^<]*)</figcaption>", html)
    assert captions == [
        *("a-b, step 5", "code&lt;, step 9", "code&lt;, step 10"),
        *("panel, step 7", "panel, step 100", "panel, step 3"),
    ]
    assert [a["alt"] for a in pictures][1:4:2] == [
        *("code< of run at step 9", "panel of run at step 7"),
    ]


HOSTILE = '<script>alert("1")<&\'> $x^2$'


def test_names_and_values_are_escaped(tmp_path):
    line = {"step": 1, "epoch": 1, "split": "eval", "loss": 1, HOSTILE: 2}
    run = make_run(
        tmp_path / HOSTILE,
        [line, *LINES],
        Config(dataset="idx", data_dir=f"/{HOSTILE}"),
        EVALUATION | {"checkpoint": HOSTILE, HOSTILE: {HOSTILE: {HOSTILE: HOSTILE}}},
        panels=(1,),
    )
    with open(run / "metrics.jsonl", "a") as file:
        file.write("damaged\n")
    html = report(run, make_run(tmp_path / f"{HOSTILE}2"))
    page = Page(html)
    assert "<script" not in html
    assert not [n for _, a in page.elements for n in a if n.startswith("on")]
    assert page.texts.count(HOSTILE) > 10
    assert f"/{HOSTILE}" == page.table("", HOSTILE, f"{HOSTILE}2")["data_dir"][HOSTILE]
    assert page.all("img")[0]["alt"].startswith(f"panel of {HOSTILE} ")
    assert HOSTILE in [a.get("aria-label") for a in page.all("svg")]


def test_the_page_loads_and_runs_nothing(tmp_path):
    run = make_run(tmp_path / "run", evaluation=EVALUATION, panels=(1, 2))
    html = report(run, make_run(tmp_path / "other"))
    page = Page(html)
    assert not re.search(r"https?:|//\w|@import|javascript:", html)
    assert set(re.findall(r"url\((.)", html)) == {"#"}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
                assert value.startswith(("data:image/png;base64,", "#"))
    forbidden = {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not forbidden & {name for name, _ in page.elements}
    policies = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert ["default-src 'none'" in policy for policy in policies] == [True]


def test_the_page_supports_phones_and_both_color_schemes(tmp_path):
    html = report(make_run(tmp_path / "run", evaluation=EVALUATION))
    page = Page(html)
    (viewport,) = [a for a in page.all("meta") if a.get("name") == "viewport"]
    assert "width=device-width" in viewport["content"]
    wide = [a for a in page.all("div") if a.get("class") == "wide"]
    assert len(wide) == len(page.tables) > 1
    assert len(re.findall(r'<div class="wide"[^>]*>\s*<table>', html)) == len(wide)
    light, dark = html.split("prefers-color-scheme: dark", 1)
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    assert {"--ink", "--grid", "--run-0"} <= used
    assert used <= set(re.findall(r"(--[\w-]+):", light))
    assert used <= set(re.findall(r"(--[\w-]+):", dark))
    for svg in page.all("svg"):
        assert "viewbox" in svg and not {"width", "height"} & svg.keys()


def test_the_legend_distinguishes_all_runs(tmp_path):
    runs = [make_run(tmp_path / f"{number:02d}") for number in range(MAX_RUNS)]
    html = report(*runs)
    keys = re.findall(r'<line [^>]*style="([^"]*)"', html)
    assert len(keys) == len(set(keys)) == MAX_RUNS


def test_a_run_without_metrics_has_a_page(tmp_path):
    page = Page(report(make_run(tmp_path / "run", lines=[])))
    assert "no metrics yet" in page.texts
    assert page.table("", "last epoch")["run"]["last epoch"] == "\N{EN DASH}"


def test_a_run_with_only_gaps_has_a_page(tmp_path):
    gaps = [
        {"step": n, "epoch": n, "split": s, "loss": None, "images_per_second": None}
        for n, s in enumerate(["train", "eval"])
    ]
    page = Page(report(make_run(tmp_path / "run", gaps)))
    assert page.all("figcaption") == []
    assert page.table("", "last epoch")["run"]["last epoch"] == "1"


def test_text_that_utf_8_cannot_encode_is_escaped(tmp_path):
    run = make_run(tmp_path / "run")
    values = json.loads((run / "config.json").read_text()) | {"data_dir": "\ud800x"}
    (run / "config.json").write_text(json.dumps(values))
    assert Page(report(run)).table("", "value")["data_dir"] == {"value": r"\ud800x"}


def test_a_page_on_long_runs_is_small(tmp_path):
    generator = np.random.default_rng(0)
    metrics = ("loss", "psnr", "gradient_norm", "learning_rate", "images_per_second")
    runs = []
    for name in "abc":
        noise = generator.lognormal(size=(6000, len(metrics))).astype(np.float32)
        lines = [
            {"step": step, "epoch": step / 100, "split": "train"}
            | dict(zip(metrics, map(float, row), strict=True))
            for step, row in enumerate(noise)
        ]
        runs.append(make_run(tmp_path / name, lines))
    html = report(*runs)
    assert len(html) < 2_000_000
    for name in metrics:
        for number in range(3):
            drawn = sum(map(len, path_of(html, f"{name}-train-{number}")))
            assert 500 < drawn <= MAX_POINTS


def test_only_a_page_of_its_own_is_replaced_without_being_asked(tmp_path):
    run, output = str(make_run(tmp_path / "run", LINES)), tmp_path / "page.html"
    write_report([run], str(output))
    write_report([run], str(output))
    output.write_text("<!DOCTYPE html><title>My page</title>")
    with pytest.raises(UsageError, match=r"page\.html exists already.*--overwrite"):
        write_report([run], str(output))
    assert "My page" in output.read_text()
    write_report([run], str(output), overwrite=True)
    assert "My page" not in output.read_text()
