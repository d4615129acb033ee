"""Two processes train what one trains, and stop together. Real ones, over loopback."""

import dataclasses
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
from conftest import ROOT, SMALL_RUN, metric_lines
from patches import observe, stop_at
from processes import Forked
from stepwise import Steps, assert_same_steps, compared, take_steps
from test_killed_runs import assert_same_run

from aelab.apps.evaluation import evaluate_run
from aelab.config import Config
from aelab.data.pipeline import make_train_dataset
from aelab.data.sources import load_part
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.training.loops import build_train_loop
from aelab.training.state import TrainState

FLAGS = [
    *SMALL_RUN,
    "--steps_per_loop=3",
    "--log_every_steps=4",
    "--train_steps=20",
]
TIMEOUT_S = 120


def free_ports(count):
    """Ports of this machine at which nobody listens."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def environment_of(index, ports):
    """The variables that tell a worker of the others."""
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def start_worker(index, ports, command):
    """Starts a command as a worker, in a new process."""
    return subprocess.Popen(
        command,
        # A shell starts background jobs with this signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, **environment_of(index, ports)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def elsewhere(run_dir):
    """The second worker's --run_dir, as if on another machine: it writes nothing."""
    return run_dir.parent / "elsewhere" / "run"


def start(run_dir, *flags, flags_of_second=(), prepare=(None, None)):
    """Starts scripts/train.py as two workers."""
    ports = free_ports(2)
    flags = ["--strategy=multi_worker", *FLAGS, *flags]
    each = [
        [f"--run_dir={run_dir}", *flags],
        [f"--run_dir={elsewhere(run_dir)}", *flags, *flags_of_second],
    ]
    return [
        Forked(
            "train",
            *each[index],
            prepare=prepare[index],
            environment=environment_of(index, ports),
        )
        for index in (0, 1)
    ]


def outcomes(workers):
    """(exit code, standard output, standard error) of each worker."""
    try:
        texts = [worker.communicate(timeout=TIMEOUT_S) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [
        (worker.returncode, *text) for worker, text in zip(workers, texts, strict=True)
    ]


def finish(*arguments, **options):
    """Starts two workers that train to the end."""
    found = outcomes(start(*arguments, **options))
    assert [code for code, _, _ in found] == [0, 0], found
    return found


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """The directory of a run that nothing stops."""
    run_dir = tmp_path_factory.mktemp("workers") / "run"
    prepare = [functools.partial(observe, f"{run_dir}-{index}") for index in (0, 1)]
    chief, other = finish(run_dir, prepare=prepare)
    assert chief[2] == ""
    assert "2 x CPU, multi worker, 2 workers, float32" in chief[1]
    assert other[1:] == ("", "")
    return run_dir


def test_only_the_chief_writes_the_run_and_the_others_write_their_log(run_dir):
    other = elsewhere(run_dir)
    log = (other.parent / "run.worker-1.log").read_text()
    assert "Worker     1 of 2" in log
    assert "step 20/20" in log
    assert {p.name for p in other.parent.iterdir()} == {"run.worker-1.log"}
    folders = {p.name for p in run_dir.parent.iterdir() if p.is_dir()}
    assert folders == {"run", "elsewhere"}
    machine = json.loads((run_dir / "config.json").read_text())["machine"]
    assert (machine["workers"], machine["replicas"]) == (2, 2)


@pytest.mark.parametrize("worker", [0, 1])
def test_a_worker_compiles_once(run_dir, worker):
    """For all numbers of steps per call, and over several epochs."""
    with open(f"{run_dir}-{worker}-traces") as file:
        assert sorted(file.read().split()) == ["eval", "train"]


def test_each_worker_makes_its_own_rows(run_dir):
    config = RunDirectory(str(run_dir)).read_config()
    whole = make_train_dataset(load_part(config, "train"), config, 0)
    for number, (corrupted, _) in enumerate(whole.take(3)):
        parts = [
            np.fromfile(f"{run_dir}-{worker}-rows-{number}", np.float32)
            for worker in (0, 1)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), corrupted.numpy().ravel())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["conv", "dense"])
def test_two_workers_agree_with_one_device(tmp_path, model):
    """Each step from checkpoint to checkpoint, and the evaluation of the last one."""
    run = RunDirectory(str(tmp_path / "run"))
    flags = [f"--model={model}", "--train_steps=7", "--log_every_steps=1"]
    flags += ["--checkpoint_every_steps=1", "--keep_checkpoints=8"]
    finish(tmp_path / "run", *flags)
    paths = reversed(checkpoints.all_of(run.latest))
    states = [compared(checkpoints.load(path)) for path in paths]
    losses = [line["loss"] for line in metric_lines(tmp_path / "run", "train")]
    found = Steps(states[:-1], states[1:], losses)
    assert len(losses) == 7

    config = dataclasses.replace(run.read_config(), strategy=Config().strategy)
    images = load_part(config, "train")
    state = TrainState(config, images.image_shape, 7)
    batches = iter(make_train_dataset(images, config, 0))
    loop = build_train_loop(state, config)
    assert_same_steps(found, take_steps(state, loop, batches, 7, found.starts))

    evaluation = evaluate_run(run.path, "latest", baselines=False).metrics
    line = metric_lines(tmp_path / "run", "eval")[-1]
    assert line["step"] == 7
    assert {name: line[name] for name in evaluation} == pytest.approx(
        evaluation, rel=1e-6, abs=1e-7
    )


@pytest.mark.slow
def test_a_run_whose_workers_are_killed_and_stopped_is_resumed(tmp_path, run_dir):
    """With the metrics and weights, bit for bit, of the run that nothing stopped."""
    mine = tmp_path / "run"
    latest = RunDirectory(str(mine)).latest

    def stop(victim, moment, number):
        prepare = [None, None]
        prepare[victim] = functools.partial(stop_at, moment, number)
        return outcomes(start(mine, prepare=prepare))

    for victim, step, safe in [
        (1, 7, f"The last good checkpoint is {checkpoints.path_of(latest, 7)}"),
        (0, 13, "with worker 0"),
    ]:
        started = time.monotonic()
        found = stop(victim, "sixth advance", signal.SIGKILL)
        assert time.monotonic() - started < 60
        code, _, message = found[1 - victim]
        assert (found[victim][0], code) == (-signal.SIGKILL, 1)
        assert "another worker is gone" in message
        assert "step" in message
        assert "Traceback" not in message
        assert safe in message
        assert checkpoints.newest(latest) == checkpoints.path_of(latest, step)
    # To the worker that saves nothing.
    found = stop(1, "second advance", signal.SIGTERM)
    assert [code for code, _, _ in found] == [128 + signal.SIGTERM] * 2, found
    assert "SIGTERM: stopped at step 19" in found[0][2]
    assert checkpoints.newest(latest) == checkpoints.path_of(latest, 19)
    finish(mine)
    assert_same_run(mine, run_dir)


def test_an_error_of_one_worker_ends_the_other(tmp_path):
    bad_data = ["--dataset=idx", "--data_dir=/nowhere"]
    (mine, _, error), (other, _, message) = outcomes(
        start(tmp_path / "run", flags_of_second=bad_data)
    )
    assert mine == 1
    assert "another worker is gone" in error or "same settings" in error
    assert "Nothing was saved yet" in error
    assert other == 2
    assert "/nowhere is not a folder" in message


def test_workers_with_different_flags_are_refused(tmp_path):
    found = outcomes(start(tmp_path / "run", flags_of_second=["--seed=1"]))
    for code, _, message in found:
        assert code == 2
        assert "same settings" in message
        assert "--seed" in message
    assert not (tmp_path / "run").exists()


def test_a_worker_that_waits_for_the_others_can_be_interrupted(tmp_path):
    """By Ctrl-C; SIGTERM is caught by TensorFlow meanwhile."""
    command = [sys.executable, ROOT / "scripts/train.py", "--strategy=multi_worker"]
    command += [f"--run_dir={tmp_path}/run", *FLAGS]
    worker = start_worker(0, free_ports(2), command)
    assert "waiting for the others" in worker.stdout.readline()
    time.sleep(2)
    assert worker.poll() is None
    worker.send_signal(signal.SIGINT)
    ((code, _, errors),) = outcomes([worker])
    assert code == -signal.SIGINT, errors
