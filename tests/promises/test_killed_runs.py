"""A run that was stopped and resumed ends as one that nothing stopped."""

import functools
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
from patches import stop_at
from processes import Forked

from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory

FLAGS = [
    *SMALL_RUN,
    "--epochs=8",
    "--steps_per_loop=3",
    "--log_every_steps=2",
    "--early_stopping_patience=15",
]
# One for each order in which files can be left behind; tools/soak.py kills at random
# moments.
KILLS = [
    "configuration",
    "first checkpoint",
    "line",
    "picture",
    "between best and latest",
    "renamed, old ones not removed",
    "projector",
]
TIMEOUT_S = 120


def start_script(run_dir, *flags):
    """Starts scripts/train.py as a user does."""
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
    """The lines of metrics.jsonl without the times; each must be whole."""
    text = (run_dir / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in n.items() if k not in TIMES} for n in lines]


def wait_for_lines(run_dir, count):
    """Waits until a run has written so many lines."""
    path = run_dir / "metrics.jsonl"
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"the run did not write {count} lines")


def saved_step(run_dir):
    """The step of the newest checkpoint."""
    return int(checkpoints.load_newest(RunDirectory(str(run_dir)).latest)[1]["step"])


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The directory of a run that nothing stops."""
    run_dir = tmp_path_factory.mktemp("reference") / "run"
    finish(run_dir, "Run ")
    return run_dir


def stop(run_dir, moment, *signals):
    """Exit code and errors of a run that sends itself signals at a moment."""
    process = Forked(
        "train",
        f"--run_dir={run_dir}",
        *FLAGS,
        prepare=functools.partial(stop_at, moment, *signals),
    )
    _, errors = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, errors


def finish(run_dir, status="Resuming"):
    """Runs the same command to its end."""
    process = Forked("train", f"--run_dir={run_dir}", *FLAGS)
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")
    assert status in output


def assert_same_run(run_dir, reference):
    """Weights, optimizer, totals, early stopping, best checkpoint, metrics, files."""
    for kind in ("latest", "best"):
        mine, theirs = (
            checkpoints.newest(RunDirectory(str(path)).checkpoints(kind))
            for path in (run_dir, reference)
        )
        assert os.path.basename(mine) == os.path.basename(theirs)
        arrays, expected = checkpoints.load(mine), checkpoints.load(theirs)
        assert arrays.keys() == expected.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert lines_of(run_dir) == lines_of(reference)
    pictures, expected = (
        {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
        for folder in (run_dir, reference)
    )
    assert pictures == expected
    for name in ("code.tsv", "labels.tsv", "sprite.png", "projector_config.pbtxt"):
        path = f"tensorboard/eval/{name}"
        assert (run_dir / path).read_bytes() == (reference / path).read_bytes()


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(tmp_path, reference):
    """One run that dies seven times, of a SIGKILL that it sends itself."""
    run_dir = tmp_path / "run"
    for moment in KILLS:
        found = stop(run_dir, moment, signal.SIGKILL)
        assert found == (-signal.SIGKILL, ""), moment
    finish(run_dir, "Complete")  # except for the projector's files
    assert_same_run(run_dir, reference)
    assert [p for p in run_dir.rglob("*") if p.name.startswith(".tmp")] == []


@pytest.mark.slow
def test_a_run_stopped_by_a_signal_saves_and_resumes(tmp_path, reference):
    """It saves and stops at the step it is at, also within an evaluation.

    A second signal ends it at once, without a word.
    """
    run_dir = tmp_path / "run"
    for moment, number, step in [
        ("compiled", signal.SIGTERM, 0),
        ("evaluation", signal.SIGINT, 13),
        ("latest checkpoint", signal.SIGTERM, 25),
    ]:
        code, errors = stop(run_dir, moment, number)
        assert code == 128 + number, (moment, errors)
        assert f"stopped at step {step}, which is saved" in errors
        assert "the same command resumes" in errors
        assert len(errors.splitlines()) == 1
        assert saved_step(run_dir) == step
    found = stop(run_dir, "latest checkpoint", signal.SIGTERM, signal.SIGTERM)
    assert found == (128 + signal.SIGTERM, "")
    finish(run_dir)
    assert_same_run(run_dir, reference)


def test_a_run_has_one_writer_until_a_signal_stops_it(tmp_path):
    """A process that was killed does not block the next one: see above."""
    run_dir, is_long = tmp_path / "run", "--epochs=100000"
    first = start_script(run_dir, is_long)
    wait_for_lines(run_dir, 1)
    second = Forked("train", f"--run_dir={run_dir}", *FLAGS, is_long)
    _, errors = second.communicate(timeout=TIMEOUT_S)
    assert first.poll() is None
    assert second.returncode == 2
    assert f"process {first.pid} on {socket.gethostname()}" in errors
    assert str(run_dir) in errors
    assert len(errors.splitlines()) == 1
    first.send_signal(signal.SIGTERM)
    _, errors = first.communicate(timeout=TIMEOUT_S)
    assert first.returncode == 128 + signal.SIGTERM, errors
    assert f"stopped at step {saved_step(run_dir)}, which is saved" in errors
    assert len(errors.splitlines()) == 1
