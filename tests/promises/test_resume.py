"""A run that was stopped and started again ends as one that nothing stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, SMALL_RUN, TIMES

from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory

FLAGS = [
    *SMALL_RUN,
    "--epochs=20",
    "--steps_per_loop=3",
    "--log_every_steps=7",
    "--early_stopping_patience=15",
]
# Of tests/stopped_at.py, one for each order in which files can be left behind; at
# random moments, tools/soak.py does the same.
KILLS = [
    "configuration",
    "first checkpoint",
    "line",
    "picture",
    "between best and latest",
    "renamed, old ones not removed",
    "projector",
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
    return [{k: v for k, v in n.items() if k not in TIMES} for n in lines]


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


def stopped(run_dir, moment, signals):
    """Exit code, output and errors of a run that sends itself signals at a moment."""
    command = [sys.executable, ROOT / "tests/stopped_at.py", moment, signals]
    command += [f"--run_dir={run_dir}", *FLAGS]
    paths = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    found = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": paths},
    )
    return found.returncode, found.stdout, found.stderr


def finish(run_dir, status="Goes on"):
    """Starts the same command, and lets it come to its end."""
    process = start(run_dir)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert errors == ""
    assert status in output


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
    pictures, expected = (
        {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
        for folder in (run_dir, twin)
    )
    assert pictures == expected
    for name in ("code.tsv", "labels.tsv", "sprite.png", "projector_config.pbtxt"):
        path = f"tensorboard/eval/{name}"
        assert (run_dir / path).read_bytes() == (twin / path).read_bytes()


@pytest.mark.parametrize(
    ("number", "lines"), [(signal.SIGTERM, 9), (signal.SIGINT, 60)]
)
def test_stopped_by_a_signal(tmp_path, twin, number, lines):
    run_dir = tmp_path / "run"
    process = start(run_dir)
    wait_for_lines(run_dir, lines)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert "the same command goes on" in errors
    assert len(errors.splitlines()) == 1
    latest = checkpoints.newest(RunDirectory(str(run_dir)).latest)
    assert f"at step {int(checkpoints.load(latest)['step'])}," in errors
    finish(run_dir)
    assert_same_run(run_dir, twin)


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path, twin):
    """One run that dies seven times, of a SIGKILL that it sends itself."""
    run_dir = tmp_path / "run"
    for moment in KILLS:
        code, _, errors = stopped(run_dir, moment, "SIGKILL")
        assert code == -signal.SIGKILL, (moment, errors)
        assert errors == "", moment
    finish(run_dir, "Complete")  # but for the projector's files
    assert_same_run(run_dir, twin)
    leftovers = [p for p in run_dir.rglob("*") if p.name.startswith(".tmp")]
    assert leftovers == []


@pytest.mark.slow
def test_asked_to_stop_at_any_moment(tmp_path, twin):
    """It stops where it is: in an evaluation, too, and when it has just compiled."""
    run_dir = tmp_path / "run"
    for moment, number, step in [
        ("compiled", signal.SIGTERM, 0),
        ("evaluation", signal.SIGINT, 63),
        ("latest checkpoint", signal.SIGTERM, 125),
    ]:
        code, _, errors = stopped(run_dir, moment, signal.Signals(number).name)
        assert code == 128 + number, (moment, errors)
        assert f"stopped at step {step}, which is saved" in errors
        assert len(errors.splitlines()) == 1
    finish(run_dir)
    assert_same_run(run_dir, twin)


def test_a_second_signal_ends_it_at_once(tmp_path, twin):
    run_dir = tmp_path / "run"
    code, _, errors = stopped(run_dir, "latest checkpoint", "SIGTERM,SIGTERM")
    assert (code, errors) == (128 + signal.SIGTERM, "")
    finish(run_dir)
    assert_same_run(run_dir, twin)


def test_one_writer(tmp_path):
    """A second process stops at once. One that was killed does not block: see above."""
    run_dir, is_long = tmp_path / "run", "--epochs=1000"
    first = start(run_dir, is_long)
    wait_for_lines(run_dir, 1)
    second = start(run_dir, is_long)
    _, errors = second.communicate(timeout=120)
    assert first.poll() is None
    first.kill()
    first.communicate(timeout=60)
    assert second.returncode == 2
    assert f"process {first.pid} on {socket.gethostname()}" in errors
    assert str(run_dir) in errors
    assert len(errors.splitlines()) == 1
