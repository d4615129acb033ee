import base64
import json
import math
import os
import re
import shutil
import struct
import sys
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import ROOT, run_script
from hypothesis import given
from hypothesis import strategies as st

from aelab.apps.evaluation import evaluate_run
from aelab.apps.report import write_report
from aelab.apps.report.curves import MOST_POINTS, Curve, read_curves, thin_out
from aelab.apps.report.plots import MOST_RUNS, Line, draw
from aelab.apps.report.results import evaluation
from aelab.apps.report.runs import Run, names
from aelab.apps.report.tables import differences, table_of
from aelab.config import FIELDS, Config
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.training.run import train_and_evaluate

DATA = {"train": "50 images, sha256 a", "eval": "21 images, sha256 b"}
DATA |= {"image_shape": [12, 16, 1]}
LINES = [
    {"step": 10, "epoch": 0.5, "split": "train", "loss": 0.5, "gradient_norm": 2.0},
    {"step": 20, "epoch": 1.0, "split": "train", "loss": 0.4, "gradient_norm": None},
    {"step": 20, "epoch": 1.0, "split": "eval", "loss": 0.45, "psnr": 9.5, "ssim": 0.1},
    {"step": 30, "epoch": 1.5, "split": "train", "loss": 0.3, "gradient_norm": 1.0},
    {"step": 40, "epoch": 2.0, "split": "train", "loss": 0.2, "gradient_norm": 3.0},
    {
        "step": 40,
        "epoch": 2.0,
        "split": "eval",
        "loss": 0.25,
        "psnr": 12.345,
        "ssim": 0,
    },
]
FIGURES = {"psnr": 18.5678, "ssim": 0.71236, "mse": 0.0139, "bce": 0.29}
FLOOR = {"psnr": 9.3, "ssim": 0.2, "mse": 0.117, "bce": 0.9}
EVALUATION = {
    **{"checkpoint": "best", "step": 1234, "examples": 1813},
    "data": {"fingerprint": "21 images", "as_in_training": True},
    **{"metrics": FIGURES, "input": FLOOR},
}
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """What a page holds; fails on elements that are not closed in order.

    Attributes:
      elements: (name, attributes) in order.
      tables: of each table its rows, of each row the texts of its cells.
      texts: all text outside `style`, joined.
    """

    def __init__(self, html):
        super().__init__()
        self.elements, self.tables, self.texts, self._open = [], [], "", []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.texts += data
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def table(self, *columns):
        """The rows of the one table whose head begins so, as objects."""
        (found,) = [t for t in self.tables if t[0][: len(columns)] == list(columns)]
        head, *rows = found
        return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def png(width=3, gray=0):
    """A gray picture, written by hand."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" + bytes([gray] * width))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_run(folder, lines=LINES[:1], config=None, evaluation=None, panels=()):
    """A run directory as training leaves it, without checkpoints."""
    run = RunDirectory(str(folder))
    run.write(config or Config(), DATA, {"replicas": 1, "devices": ["CPU:0"]})
    write_lines(folder / "metrics.jsonl", lines)
    if evaluation is not None:
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
    for step in panels:
        path = folder / "images" / f"panel-{step:08d}.png"
        path.write_bytes(png(gray=step % 256))
    return folder


def report(*runs, axis="epoch"):
    """The page on some runs, written into the folder that holds the first."""
    output = runs[0].parent / "report.html"
    write_report(list(map(str, runs)), str(output), axis)
    return output.read_text(encoding="utf-8")


def path_of(svg, group):
    """The parts of a drawn line: an array of points for each."""
    inside = svg[svg.index(f'<g id="{group}">') :]
    data = re.search(r'<path d="([^"]*)"[^>]*clip-path', inside)[1]
    parts = []
    for command, x, y in re.findall(r"([ML]) (\S+) (\S+)", data):
        if command == "M":
            parts.append([])
        parts[-1].append((float(x), float(y)))
    return [np.array(part) for part in parts]


def is_affine(drawn, values):
    """Whether coordinates are the values but for origin and scale."""
    slope, offset = np.polyfit(values, drawn, 1)
    return np.allclose(drawn, slope * np.array(values) + offset, atol=0.02)


# Curves.


@pytest.mark.parametrize("axis", ["epoch", "step"])
def test_curves_hold_the_figures_of_the_file(tmp_path, axis):
    write_lines(tmp_path / "metrics.jsonl", LINES)
    curves, damaged = read_curves(str(tmp_path / "metrics.jsonl"), axis)
    assert damaged == []
    expected = {}
    for line in LINES:
        for name, value in line.items():
            if name not in ("step", "epoch", "split"):
                points = expected.setdefault((line["split"], name), [])
                points.append((line[axis], math.nan if value is None else value))
    assert curves.keys() == expected.keys()
    for key, points in expected.items():
        found = np.transpose([curves[key].x, curves[key].y])
        np.testing.assert_array_equal(found, points)


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\n",
        b"\0\n",
        b"\n",
        b"3\n",
        b"[1]\n",
        b"[" * 100_000 + b"\n",
        b'{"step": 1, "split": "train", "loss": 1}\n',
        b'{"step": 1, "epoch": 1, "split": "test", "loss": 1}\n',
        b'{"step": 1, "epoch": 1, "split": ["train"], "loss": 1}\n',
        b'{"step": NaN, "epoch": 1, "split": "train", "loss": 1}\n',
        b'{"step": 1, "epoch": null, "split": "train", "loss": 1}\n',
        b'{"step": 1, "epoch": 1, "split": "train", "loss": "low"}\n',
        b'{"step": 1, "epoch": 1, "split": "train", "loss": true}\n',
        b'{"step": 1, "epoch": 1, "split": "train", "loss": 1',
    ],
)
def test_a_damaged_line_is_told_and_left_out(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    good = [json.dumps(values).encode() + b"\n" for values in LINES]
    path.write_bytes(b"".join([*good[:2], line, *good[2:]]))
    curves, damaged = read_curves(str(path), "step")
    assert damaged == [3]
    assert curves["train", "loss"].y.tolist() == [0.5, 0.4, 0.3, 0.2]
    # Without its end it has spoilt the line behind it, too.
    is_line = line.endswith(b"\n")
    assert curves["eval", "loss"].y.tolist() == ([0.45, 0.25] if is_line else [0.25])


@pytest.mark.parametrize("length", [1, 30, 60])
def test_a_line_that_is_being_written_is_passed_by(tmp_path, length):
    path = tmp_path / "metrics.jsonl"
    write_lines(path, LINES)
    whole = path.read_bytes()
    path.write_bytes(whole + json.dumps(LINES[0]).encode()[:length])
    curves, damaged = read_curves(str(path), "step")
    assert damaged == []
    assert curves["train", "loss"].x.tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize(
    "figure", ["null", "NaN", "-Infinity", "1e39", "1" + "0" * 400]
)
def test_what_is_no_float32_is_a_gap(tmp_path, figure):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1, "epoch": 1, "split": "eval", "loss": {figure}}}\n')
    curves, damaged = read_curves(str(path), "step")
    assert damaged == []
    assert np.isnan(curves["eval", "loss"].y).tolist() == [True]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reading(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "metrics.jsonl"
    path.write_bytes(content + b"\n" + json.dumps(LINES[0]).encode() + b"\n")
    curves, _ = read_curves(str(path), "step")
    assert curves["train", "loss"].y.tolist() == [0.5]


@pytest.mark.parametrize("length", [MOST_POINTS + 1, 10_007, 200_000])
def test_thinned_out_curves_keep_spikes_gaps_and_ends(length):
    generator = np.random.default_rng(0)
    x, y = np.arange(float(length)), generator.normal(size=length)
    spikes, gaps = length // 3, length // 2
    y[spikes], y[spikes + 500], y[gaps : gaps + 3] = 99, -99, math.nan
    thin = thin_out(Curve(x, y, x))
    assert MOST_POINTS / 2 < len(thin.x) <= MOST_POINTS
    assert (np.diff(thin.x) > 0).all()
    np.testing.assert_array_equal(thin.y, y[thin.x.astype(int)])
    assert {0, spikes, spikes + 500, length - 1} <= set(thin.x)
    assert np.isnan(thin.y).any()
    # In any stretch of a hundredth, the extremes are near those of all points.
    for part in np.array_split(np.arange(length), 100):
        inside = thin.y[(thin.x >= part[0]) & (thin.x <= part[-1])]
        assert np.nanmax(inside) == pytest.approx(np.nanmax(y[part]), abs=1.5)


def test_short_curves_stay_as_they_are():
    curve = Curve(*np.ones((3, 2000)))
    assert thin_out(curve) is curve


def test_a_curve_of_gaps_is_thinned_out():
    curve = thin_out(Curve(*np.full((3, 9000), math.nan)))
    assert len(curve.x) <= MOST_POINTS


# Plots.


def curve(values):
    """A curve of these values, at steps 0, 1, ..."""
    steps = np.arange(float(len(values)))
    return Curve(steps, np.array(values), steps)


@pytest.mark.parametrize(("figure", "scale"), [("psnr", np.array), ("loss", np.log)])
def test_what_is_drawn_is_the_curve(figure, scale):
    x, y = np.array([1.0, 2, 4, 8, 9]), np.array([0.5, 90, 0.7, 3, 40])
    other = Curve(x, y[::-1].copy(), x)
    lines = [Line(0, "train", Curve(x, y, x)), Line(1, "eval", other)]
    svg = draw(lines, figure, "epoch")
    for line, group in zip(lines, ("train-0", "eval-1"), strict=True):
        (points,) = path_of(svg, f"{figure}-{group}")
        assert is_affine(points[:, 0], line.curve.x)
        assert is_affine(points[:, 1], scale(line.curve.y))
        assert points[0, 0] < points[-1, 0]
        assert (points[0, 1] > points[1, 1]) == (line.curve.y[0] < line.curve.y[1])


@pytest.mark.parametrize("values", [[0.4, 0.3, 0.5], [0.0, 1, 100], [-1, 1, 100]])
def test_a_loss_of_few_decades_or_below_zero_is_drawn_linear(values):
    svg = draw([Line(0, "eval", curve(values))], "loss", "step")
    (points,) = path_of(svg, "loss-eval-0")
    assert is_affine(points[:, 1], values)


@pytest.mark.parametrize(("peak", "scale"), [(0.1, np.log), (0.004, np.array)])
def test_learning_rates_are_drawn_by_their_peaks(peak, scale):
    x, falling = np.arange(4.0), np.array([0.003, 0.002, 0.001, 1e-12])
    lines = [Line(0, "train", Curve(x, falling, x))]
    lines.append(Line(1, "train", Curve(x, np.full(4, peak), x)))
    svg = draw(lines, "learning_rate", "step")
    (points,) = path_of(svg, "learning_rate-train-0")
    assert is_affine(points[:3, 1], scale(falling[:3]))


def test_a_gap_parts_a_line_and_a_lonely_point_is_a_dot():
    y = np.array([1, 2, math.nan, 5, math.nan, 3, 4])
    svg = draw([Line(0, "train", curve(y))], "psnr", "step")
    parts = path_of(svg, "psnr-train-0")
    assert [len(part) for part in parts if len(part) > 1] == [2, 2]
    group = svg.split('<g id="psnr-train-0">')[1].split("<g id=")[0]
    (dot,) = re.findall(r'<use [^>]*x="([\d.]+)"', group)
    step = parts[0][1, 0] - parts[0][0, 0]
    assert float(dot) == pytest.approx(parts[0][0, 0] + 3 * step, abs=0.01)


def test_ids_of_two_plots_differ():
    line = Line(0, "eval", curve(np.arange(3.0)))
    ids = [set(re.findall(r'\bid="([^"]*)"', draw([line], n, "step"))) for n in "ab"]
    assert all(ids) and not ids[0] & ids[1]
    svg = draw([line], "a", "step")
    used = re.findall(r'(?:href="|url\()#([^")]*)', svg)
    assert used and set(used) <= ids[0]


# The page.


def test_all_runs_stand_in_each_plot(tmp_path):
    runs = [make_run(tmp_path / name, LINES) for name in ("one", "two", "three")]
    html = report(*runs)
    page = Page(html)
    captions = re.findall(r"<figcaption>([^<]*)</figcaption>", html)
    assert captions == ["Loss", "PSNR, dB", "SSIM", "Gradient norm before clipping"]
    for number in range(3):
        (points,) = path_of(html, f"loss-train-{number}")
        assert is_affine(points[:, 0], [0.5, 1, 1.5, 2])
        assert is_affine(points[:, 1], [0.5, 0.4, 0.3, 0.2])
        assert len(path_of(html, f"psnr-eval-{number}")[0]) == 2
    assert [a["aria-label"] for a in page.all("svg") if "role" in a] == captions
    for name in ("one", "two", "three"):
        assert f"</svg>{name}</li>" in html


def test_the_overview_says_where_runs_stand(tmp_path):
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
        "PSNR there, dB": "12.35",
        "SSIM there": "0",
        "images/s, median": "2,000",
    }


def test_the_best_of_evaluations_of_one_rounded_epoch_is_found_by_step(tmp_path):
    lines = [
        {"step": step, "epoch": 0.0001, "split": "eval", "loss": loss, "psnr": psnr}
        for step, loss, psnr in ((1, 0.5, 9), (2, 0.25, 12), (3, 0.75, 7))
    ]
    page = Page(report(make_run(tmp_path / "run", lines)))
    row = page.table("", "last epoch")["run"]
    assert (row["lowest eval loss"], row["PSNR there, dB"]) == ("0.25", "12.00")


def test_only_what_differs_stands_in_the_differences(tmp_path):
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


def test_the_whole_configuration_is_folded(tmp_path):
    config = Config(model="dense", encoding_dim=7, learning_rate=0.00123)
    html = report(make_run(tmp_path / "run", config=config))
    page = Page(html)
    table = page.table("", "value")
    for name in FIELDS:
        assert table[name] == {"value": str(getattr(config, name))}
    assert table["data train"] == {"value": DATA["train"]}
    assert table["data image_shape"] == {"value": "12, 16, 1"}
    assert html.index("<details>") < html.index("encoding_dim")
    assert "open" not in page.all("details")[0]
    assert "Differences" not in page.texts


def test_equal_configurations_differ_in_nothing(tmp_path):
    page = Page(report(make_run(tmp_path / "a"), make_run(tmp_path / "b")))
    assert re.search(r"Differences\s+None\.", page.texts)


def test_the_first_and_the_newest_panel_are_embedded(tmp_path):
    run = make_run(tmp_path / "run", panels=(7, 20, 100))
    (run / "images" / ".tmp-panel-00000200.png").write_bytes(b"half")
    (run / "images" / "panel-none.png").write_bytes(b"other")
    page = Page(report(run, make_run(tmp_path / "one", panels=(3,))))
    prefix = "data:image/png;base64,"
    pictures = [
        base64.b64decode(a["src"].removeprefix(prefix)) for a in page.all("img")
    ]
    assert pictures == [png(gray=7), png(gray=100), png(gray=3)]
    assert all(a["src"].startswith(prefix) and a["alt"] for a in page.all("img"))


def test_evaluations_of_all_runs_stand_in_one_table(tmp_path):
    other = EVALUATION | {"step": 9, "checkpoint": "latest"}
    del other["input"]
    runs = [
        make_run(tmp_path / "a", evaluation=EVALUATION),
        make_run(tmp_path / "b", evaluation=other),
        make_run(tmp_path / "c"),
    ]
    table = Page(report(*runs)).table("", "psnr")
    figures = {"psnr": "18.57", "ssim": "0.7124", "mse": "0.0139", "bce": "0.29"}
    best = {"checkpoint": "best", "step": "1,234", "examples": "1,813"}
    assert table == {
        "a: input": {"psnr": "9.30", "ssim": "0.2", "mse": "0.117", "bce": "0.9"}
        | best,
        "a: output": figures | best,
        "b: output": figures | best | {"checkpoint": "latest", "step": "9"},
    }


def test_floors_and_sweeps_become_tables(tmp_path):
    def level(noise):
        floors = {"blur": {"psnr": 13.2, "sigma": 1.5}, "tv": {"psnr": 14, "weight": 2}}
        figures = {"input": {"psnr": 9.0 + noise}, "output": {"psnr": 16.0}}
        return {"noise_stddev": noise, "images": 50, **figures, "floors": floors}

    more = {"trained": level(0.5), "sweep": [level(0.1), level(0.2)], "missing": []}
    more |= {"worst": [{"image": 3, "psnr": 5.0}], "note": "<quick>", "spread": None}
    run = make_run(tmp_path / "run", evaluation=EVALUATION | more)
    page = Page(report(run))
    columns = ["", "noise_stddev", "images", "psnr", "sigma", "weight"]
    trained, sweep = (t for t in page.tables if t[0] == columns)
    assert trained[1:] == [
        ["input", "0.5", "50", "9.50", "", ""],
        ["output", "0.5", "50", "16.00", "", ""],
        ["floors blur", "0.5", "50", "13.20", "1.5", ""],
        ["floors tv", "0.5", "50", "14", "", "2"],
    ]
    assert [row[:2] for row in sweep[1:]] == [
        [name, noise]
        for noise in ("0.1", "0.2")
        for name in ("input", "output", "floors blur", "floors tv")
    ]
    assert [["image", "psnr"], ["3", "5.00"]] in page.tables
    assert "run: note: <quick>" in page.texts
    assert "missing" not in page.texts and "spread" not in page.texts


def test_other_images_than_in_training_are_told(tmp_path):
    other = EVALUATION | {"data": {"fingerprint": "x", "as_in_training": False}}
    page = Page(report(make_run(tmp_path / "run", evaluation=other)))
    assert "not of the images" in page.texts


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
)


@given(JSON)
def test_any_json_is_a_table(value):
    table = table_of(value)
    assert table.columns
    assert all(len(row) == len(table.columns) for row in table.rows)
    for row in table.rows:
        assert not any(isinstance(cell, dict | list) for cell in row)


@given(st.dictionaries(st.sampled_from([*EVALUATION, "a", "<b>"]), JSON))
def test_any_evaluation_is_shown(found):
    page = Page(evaluation([Run("run", {}, {}, [], found, [])]))
    allowed = {"div", "table", "thead", "tbody", "tr", "th", "td", "h3", "p"}
    assert {name for name, _ in page.elements} <= allowed


def test_many_rows_are_counted():
    table = table_of([{"image": number} for number in range(1000)])
    assert table.rows[:2] == [[0], [1]]
    assert len(table.rows) == 201 and table.rows[-1] == ["and 800 rows more"]


def test_differences_of_one_are_none():
    assert differences(["a"], [{"seed": 1}]).rows == []


# Safe to open.

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
    assert page.all("img")[0]["alt"].startswith(f"Panel of {HOSTILE} ")
    assert HOSTILE in [a.get("aria-label") for a in page.all("svg")]


def test_the_page_fetches_and_runs_nothing(tmp_path):
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


def test_phones_and_both_colour_schemes_are_served(tmp_path):
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


# The script, and what it is given.


def test_the_script_writes_the_same_bytes_without_tensorflow(tmp_path):
    runs = [
        make_run(tmp_path / name, evaluation=EVALUATION, panels=(1, 2))
        for name in ("a,b", "c", "d")
    ]
    report(*runs)
    expected = (tmp_path / "report.html").read_bytes()
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("tensorflow", "keras"):
        (stubs / f"{name}.py").write_text("raise SystemExit('imported')\n")
    settings = tmp_path / "matplotlibrc"
    settings.write_text("lines.linewidth: 9\nfont.size: 30\nsvg.fonttype: path\n")
    env = {"PYTHONPATH": f"{stubs}{os.pathsep}{ROOT}", "MATPLOTLIBRC": str(settings)}
    env |= {"PYTHONHASHSEED": "7", "LANG": "C", "TZ": "Asia/Tokyo"}
    output = tmp_path / "again.html"
    log = tmp_path / "c.worker-1.log"  # a file among folders, as runs/* gives it
    log.write_text("Worker     1 of 2\n")
    folders = [str(runs[1]), str(log), str(runs[2])]
    arguments = (str(runs[0]), f"--output={output}", *folders)
    result = run_script("report", *arguments, env=env)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{output}: {len(expected):,} bytes\n"
    assert output.read_bytes() == expected


def test_missing_matplotlib_is_told(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"matplotlib.*pip install -e '\.\[report\]'"):
        report(run)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no run"),
        (b"{", "not JSON"),
        (b"\xff", "holds no run"),
        (b"[1]", "JSON object"),
        (b'{"name": "other"}', "no field of a configuration"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, content, words):
    run, good = tmp_path / "run", make_run(tmp_path / "good")
    run.mkdir()
    if content is not None:
        (run / "config.json").write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        report(good, run)
    assert str(run) in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_a_file_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        report(make_run(tmp_path / "run") / "config.json")


def test_one_run_under_two_names_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    with pytest.raises(UsageError, match=r"run.*link|link.*run"):
        report(run, tmp_path / "link")
    with pytest.raises(UsageError, match="same directory"):
        write_report([str(run)] * 2, str(tmp_path / "report.html"))


@pytest.mark.parametrize("count", [0, MOST_RUNS + 1])
def test_too_few_or_many_runs_are_refused(tmp_path, count):
    runs = [str(make_run(tmp_path / str(number))) for number in range(count)]
    with pytest.raises(UsageError, match=f"{count} runs .* 1 to {MOST_RUNS}"):
        write_report(runs, str(tmp_path / "report.html"))


def test_so_many_runs_are_told_apart(tmp_path):
    runs = [make_run(tmp_path / f"{number:02d}") for number in range(MOST_RUNS)]
    html = report(*runs)
    keys = re.findall(r'<line [^>]*style="([^"]*)"', html)
    assert len(keys) == len(set(keys)) == MOST_RUNS


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("report.txt", "must end in .html"),
        ("none/a.html", "no folder"),
        ("d.html", "is a folder"),
    ],
)
def test_a_bad_output_is_refused(tmp_path, output, words):
    (tmp_path / "d.html").mkdir()
    run = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match=rf"--output=.*{output}.*{words}"):
        write_report([str(run)], str(tmp_path / output))
    assert not [p for p in tmp_path.rglob("*.html") if p.is_file()]


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [
        ("metrics.jsonl", True),
        ("metrics.jsonl", False),
        ("evaluation.json", True),
        ("evaluation.json", False),
        ("images", False),
    ],
)
def test_what_is_rubbish_is_told_and_leaves_the_rest(tmp_path, name, is_folder):
    run = make_run(tmp_path / "run", evaluation=EVALUATION, panels=(1,))
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.mkdir() if is_folder else path.write_bytes(b"\x80 rubbish\n")
    page = Page(report(run))
    assert f"run: {name}" in page.texts
    assert ("Loss" in page.texts) == (name != "metrics.jsonl")
    assert bool(page.all("img")) == (name != "images")
    assert ("18.57" in page.texts) == (name != "evaluation.json")


def test_what_is_not_there_leaves_the_rest(tmp_path):
    run = make_run(tmp_path / "run", panels=(1,))
    shutil.rmtree(run / "images")
    (run / "metrics.jsonl").unlink()
    page = Page(report(run))
    assert "run: There are no figures yet." in page.texts
    assert page.table("", "value")["model"] == {"value": "conv"}


def test_half_a_picture_is_told(tmp_path):
    run = make_run(tmp_path / "run", panels=(1, 2))
    path = run / "images" / "panel-00000002.png"
    path.write_bytes(path.read_bytes()[:-3])
    page = Page(report(run))
    assert "panel-00000002.png is no whole PNG file" in page.texts
    assert len(page.all("img")) == 1


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
    page = Page(report(make_run(tmp_path / "run", lines=[])))
    assert "no figures yet" in page.texts
    assert page.table("", "last epoch")["run"]["last epoch"] == "\N{EN DASH}"


def test_a_run_of_gaps_has_a_page(tmp_path):
    gaps = [
        {"step": n, "epoch": n, "split": s, "loss": None, "images_per_second": None}
        for n, s in enumerate(["train", "eval"])
    ]
    page = Page(report(make_run(tmp_path / "run", gaps)))
    assert page.all("figcaption") == []
    assert page.table("", "last epoch")["run"]["last epoch"] == "1"


def test_text_that_no_file_can_hold_is_replaced(tmp_path):
    run = make_run(tmp_path / "run")
    values = json.loads((run / "config.json").read_text()) | {"data_dir": "\ud800x"}
    (run / "config.json").write_text(json.dumps(values))
    assert Page(report(run)).table("", "value")["data_dir"] == {"value": "?x"}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/x/a", "/y/b/"], ["a", "b"]),
        (["/x/run", "/x/y/run"], ["run", "y/run"]),
        (["/x/1/run", "/x/2/run", "/x/2/b"], ["1/run", "2/run", "2/b"]),
        (["/x/run", "/x/run/b/run"], ["run", "run/b/run"]),
        (["/"], ["/"]),
    ],
)
def test_names_tell_runs_apart(paths, expected):
    assert names(paths) == expected


def test_long_runs_give_small_pages(tmp_path):
    generator = np.random.default_rng(0)
    figures = ("loss", "psnr", "gradient_norm", "learning_rate", "images_per_second")
    runs = []
    for name in "abc":
        noise = generator.lognormal(size=(6000, len(figures))).astype(np.float32)
        lines = [
            {"step": step, "epoch": step / 100, "split": "train"}
            | dict(zip(figures, map(float, row), strict=True))
            for step, row in enumerate(noise)
        ]
        runs.append(make_run(tmp_path / name, lines))
    html = report(*runs)
    assert len(html) < 2_000_000
    for name in figures:
        for number in range(3):
            drawn = sum(map(len, path_of(html, f"{name}-train-{number}")))
            assert 500 < drawn <= MOST_POINTS


# With a real run.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs of some steps, the first of them evaluated."""
    folder = tmp_path_factory.mktemp("trained")
    small = {"train_examples": 64, "eval_examples": 16, "batch_size": 8}
    small |= {"log_every_steps": 3, "noise_stddev": 0.5, "epochs": 2}
    for seed in (1, 2):
        config = Config(model="dense", seed=seed, **small)
        train_and_evaluate(config, str(folder / f"seed-{seed}"))
    evaluate_run(str(folder / "seed-1"))
    return folder


def test_a_report_on_real_runs(trained):
    html = report(trained / "seed-1", trained / "seed-2")
    page = Page(html)
    assert 'class="note"' not in html
    for number, name in enumerate(("seed-1", "seed-2")):
        text = (trained / name / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        for split, figure in (("train", "loss"), ("eval", "psnr"), ("train", "psnr")):
            chosen = [line for line in lines if line["split"] == split]
            (points,) = path_of(html, f"{figure}-{split}-{number}")
            assert is_affine(points[:, 0], [line["epoch"] for line in chosen])
            assert is_affine(points[:, 1], [line[figure] for line in chosen])
    assert len(page.all("img")) == 4
    found = json.loads((trained / "seed-1" / "evaluation.json").read_text())
    row = page.table("", "psnr")["seed-1: output"]
    assert row["psnr"] == f"{found['metrics']['psnr']:.2f}"
    assert page.table("", "seed-1", "seed-2") == {
        "seed": {"seed-1": "1", "seed-2": "2"}
    }


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_all_of_it_without_scrolling_sideways(
    trained, browser, tmp_path, width
):
    output = tmp_path / "report.html"
    write_report([str(trained / f"seed-{n}") for n in (1, 2)], str(output))
    page = browser.open(output.as_uri(), width)
    texts, pictures = page.read(lambda texts, pictures: len(pictures) == 4)
    assert {"seed-1", "seed-2"} <= set(texts)
    assert len(pictures) == 4
    root = "document.documentElement"
    assert page.run(f"{root}.scrollWidth") <= page.run(f"{root}.clientWidth") == width
    assert page.run("[...document.images].every((i) => i.naturalWidth)")
    drawn = "[...document.querySelectorAll('svg[role]')].map((s) => s.clientWidth)"
    assert min(page.run(drawn)) > 100
    loads = "performance.getEntriesByType('resource').map((load) => load.name)"
    assert [n for n in page.run(loads) if not n.startswith("data:")] == []
