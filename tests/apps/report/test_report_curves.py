import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import LINES, write_lines

from aelab.apps.report.curves import MAX_POINTS, Curve, read_curves, thin_out


@pytest.mark.parametrize("axis", ["epoch", "step"])
def test_curves_hold_the_values_of_the_file(tmp_path, axis):
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
        read = np.transpose([curves[key].x, curves[key].y])
        np.testing.assert_array_equal(read, points)


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
def test_a_damaged_line_is_reported_and_left_out(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    good = [json.dumps(values).encode() + b"\n" for values in LINES]
    path.write_bytes(b"".join([*good[:2], line, *good[2:]]))
    curves, damaged = read_curves(str(path), "step")
    assert damaged == [3]
    assert curves["train", "loss"].y.tolist() == [0.5, 0.4, 0.3, 0.2]
    # Without its end it damages the next line as well.
    is_line = line.endswith(b"\n")
    assert curves["eval", "loss"].y.tolist() == ([0.45, 0.25] if is_line else [0.25])


@pytest.mark.parametrize("length", [1, 30, 60])
def test_a_line_that_is_being_written_is_ignored(tmp_path, length):
    path = tmp_path / "metrics.jsonl"
    write_lines(path, LINES)
    whole = path.read_bytes()
    path.write_bytes(whole + json.dumps(LINES[0]).encode()[:length])
    curves, damaged = read_curves(str(path), "step")
    assert damaged == []
    assert curves["train", "loss"].x.tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize("value", ["null", "NaN", "-Infinity", "1e39", "1" + "0" * 400])
def test_a_value_outside_float32_is_a_gap(tmp_path, value):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1, "epoch": 1, "split": "eval", "loss": {value}}}\n')
    curves, damaged = read_curves(str(path), "step")
    assert damaged == []
    assert np.isnan(curves["eval", "loss"].y).tolist() == [True]


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "metrics.jsonl"
    path.write_bytes(content + b"\n" + json.dumps(LINES[0]).encode() + b"\n")
    curves, _ = read_curves(str(path), "step")
    assert curves["train", "loss"].y.tolist() == [0.5]


@pytest.mark.parametrize("length", [MAX_POINTS + 1, 10_007, 200_000])
def test_thinning_out_keeps_spikes_gaps_and_ends(length):
    generator = np.random.default_rng(0)
    x, y = np.arange(float(length)), generator.normal(size=length)
    spikes, gaps = length // 3, length // 2
    y[spikes], y[spikes + 500], y[gaps : gaps + 3] = 99, -99, math.nan
    thin = thin_out(Curve(x, y, x))
    assert MAX_POINTS / 2 < len(thin.x) <= MAX_POINTS
    assert (np.diff(thin.x) > 0).all()
    np.testing.assert_array_equal(thin.y, y[thin.x.astype(int)])
    assert {0, spikes, spikes + 500, length - 1} <= set(thin.x)
    assert np.isnan(thin.y).any()
    # In each hundredth of the curve the extremes are nearly the same.
    for part in np.array_split(np.arange(length), 100):
        inside = thin.y[(thin.x >= part[0]) & (thin.x <= part[-1])]
        assert np.nanmax(inside) == pytest.approx(np.nanmax(y[part]), abs=1.5)


def test_short_curves_are_not_thinned_out():
    curve = Curve(*np.ones((3, 2000)))
    assert thin_out(curve) is curve


def test_a_curve_of_gaps_is_thinned_out():
    curve = thin_out(Curve(*np.full((3, 9000), math.nan)))
    assert len(curve.x) <= MAX_POINTS
