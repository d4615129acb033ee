"""A run that was stopped and started again ends as one that nothing stopped."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, SMALL_RUN

from aelab import checkpoints
from aelab.run_directory import RunDirectory

FLAGS = [
    *SMALL_RUN,
    "--epochs=40",
    "--steps_per_loop=3",
    "--log_every_steps=7",
    "--early_stopping_patience=30",
]


def start(run_dir, *flags):
    return subprocess.Popen(
        [
            sys.executable,
            ROOT / "scripts/train.py",
            f"--run_dir={run_dir}",
            *FLAGS,
            *flags,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines_of(run_dir):
    """The lines of metrics.jsonl without the times; none may be torn."""
    text = (run_dir / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in n.items() if k != "images_per_second"} for n in lines]


def wait_for_lines(run_dir, count):
    """Waits until a run has written so many lines."""
    path = run_dir / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    pytest.fail("the run wrote nothing")


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """The run that nothing stops."""
    run_dir = tmp_path_factory.mktemp("twin") / "run"
    process = start(run_dir)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert errors == ""
    return run_dir


def assert_same_run(run_dir, twin):
    """Weights, optimizer, totals, early stopping, best checkpoint and figures."""
    for kind in ("latest", "best"):
        mine, theirs = (
            checkpoints.newest(RunDirectory(str(path)).checkpoints(kind))
            for path in (run_dir, twin)
        )
        assert os.path.basename(mine) == os.path.basename(theirs)
        arrays, expected = checkpoints.load(mine), checkpoints.load(theirs)
        assert arrays.keys() == expected.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert lines_of(run_dir) == lines_of(twin)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal(tmp_path, twin, number):
    run_dir = tmp_path / "run"
    for lines in (9, 60):
        process = start(run_dir)
        wait_for_lines(run_dir, lines)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + number, errors
        assert "the same command goes on" in errors
        assert len(errors.splitlines()) == 1
        latest = checkpoints.newest(RunDirectory(str(run_dir)).latest)
        assert f"at step {int(checkpoints.load(latest)['step'])}," in errors
    process = start(run_dir)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "Goes on" in output
    assert_same_run(run_dir, twin)


def test_killed(tmp_path, twin):
    run_dir = tmp_path / "run"
    for lines in (0, 20, 80):
        process = start(run_dir)
        wait_for_lines(run_dir, lines)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    process = start(run_dir)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert_same_run(run_dir, twin)


def test_killed_in_the_middle_of_a_line(tmp_path, twin):
    run_dir = tmp_path / "run"
    process = start(run_dir)
    wait_for_lines(run_dir, 30)
    process.kill()
    process.communicate(timeout=60)
    with open(run_dir / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 1000, "epo')
    process = start(run_dir)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert_same_run(run_dir, twin)
