"""Two processes train what one trains, and stop together. Real ones, over loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, SMALL_RUN
from test_resume import assert_same_run, lines_of, wait_for_lines

from aelab.cli.flags import CommandLine
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.training.run import train_and_evaluate

FLAGS = [
    *SMALL_RUN,
    "--steps_per_loop=5",
    "--log_every_steps=1",
    "--train_steps=50",
]
TIMEOUT_S = 120


def free_ports(count):
    """Ports of this machine that nobody listens at."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def start_worker(index, ports, command):
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
    return subprocess.Popen(
        command,
        # A shell starts background jobs with this signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "TF_CONFIG": json.dumps(config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def elsewhere(run_dir):
    """The second worker's --run_dir, as if on another machine: it stays away."""
    return run_dir.parent / "elsewhere" / "run"


def start(run_dir, *flags, flags_of_second=()):
    """Starts both workers."""
    command = [
        sys.executable,
        ROOT / "scripts/train.py",
        f"--run_dir={run_dir}",
        "--strategy=multi_worker",
        *FLAGS,
        *flags,
    ]
    ports = free_ports(2)
    return [
        start_worker(0, ports, command),
        start_worker(
            1, ports, [*command, f"--run_dir={elsewhere(run_dir)}", *flags_of_second]
        ),
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


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """The run that nothing stops."""
    run_dir = tmp_path_factory.mktemp("workers") / "run"
    found = outcomes(start(run_dir))
    assert [code for code, _, _ in found] == [0, 0], found
    chief, other = found
    assert chief[2] == ""
    assert "2 x CPU, multi worker, 2 workers, float32" in chief[1]
    assert other[1:] == ("", "")
    return run_dir


def test_the_chief_alone_writes_the_run_and_the_others_their_log(run_dir):
    other = elsewhere(run_dir)
    log = (other.parent / "run.worker-1.log").read_text()
    assert "Worker     1 of 2" in log
    assert "step 50/50" in log
    assert {p.name for p in other.parent.iterdir()} == {"run.worker-1.log"}
    assert {p.name for p in run_dir.parent.iterdir()} == {"run", "elsewhere"}
    machine = json.loads((run_dir / "config.json").read_text())["machine"]
    assert (machine["workers"], machine["replicas"]) == (2, 2)


def assert_agrees_with_one_device(run_dir, alone, *flags):
    """Trains the same in this process, and compares losses and weights."""
    command_line = CommandLine("")
    command_line.add_config()
    command_line.parse(["train.py", *FLAGS, *flags])
    train_and_evaluate(command_line.config(), str(alone))
    mine, theirs = lines_of(run_dir), lines_of(alone)
    assert len(mine) == len(theirs) == 50 + 2
    assert theirs[-1]["loss"] < 0.9 * theirs[0]["loss"], "nothing was learnt"
    for one, two in zip(mine, theirs, strict=True):
        assert one["split"] == two["split"]
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    arrays = [
        checkpoints.load(checkpoints.newest(RunDirectory(str(path)).latest))
        for path in (run_dir, alone)
    ]
    weights = [
        np.concatenate([v.ravel() for n, v in a.items() if n.startswith("model/")])
        for a in arrays
    ]
    difference = np.linalg.norm(weights[0] - weights[1])
    assert difference <= 1e-4 * np.linalg.norm(weights[1])


def test_two_workers_agree_with_one_device(run_dir, tmp_path):
    assert_agrees_with_one_device(run_dir, tmp_path / "alone")


@pytest.mark.slow
def test_two_workers_agree_with_one_device_on_conv(tmp_path):
    run_dir = tmp_path / "run"
    assert [code for code, _, _ in outcomes(start(run_dir, "--model=conv"))] == [0, 0]
    assert_agrees_with_one_device(run_dir, tmp_path / "alone", "--model=conv")


PROGRAM = """
import sys
from aelab.training import step as steps
from aelab.config import Config
from aelab.system.startup import start_tensorflow
start_tensorflow(find_devices=False)
from aelab.training import trainer
from aelab.training.run import train_and_evaluate

traced = {"train": 0, "eval": 0}
gradients, metrics = steps.replica_gradients, steps.image_metrics

def counted_gradients(*arguments):
    traced["train"] += 1
    return gradients(*arguments)

def counted_metrics(*arguments):
    traced["eval"] += 1
    return metrics(*arguments)

steps.replica_gradients, steps.image_metrics = counted_gradients, counted_metrics
dataset = trainer.make_train_dataset

def written_dataset(source, config, first_step, share):
    parts = dataset(source, config, first_step, share)
    for number, (corrupted, clean) in enumerate(parts.take(3)):
        name = f"{sys.argv[1]}-{share.first_replica}-{number}"
        corrupted.numpy().tofile(name)
    return parts

trainer.make_train_dataset = written_dataset
config = Config(
    strategy="multi_worker", model="dense", batch_size=32, train_examples=100,
    eval_examples=50, epochs=3, noise_stddev=0.3, steps_per_loop=3,
)
train_and_evaluate(config, sys.argv[1])
sys.stderr.write(repr(traced))
"""


def test_compiled_once_and_each_worker_makes_its_own_rows(tmp_path):
    run_dir, ports = tmp_path / "run", free_ports(2)
    command = [sys.executable, "-c", PROGRAM, run_dir]
    found = outcomes([start_worker(index, ports, command) for index in (0, 1)])
    for code, _, errors in found:
        assert code == 0, errors
        assert errors.endswith("{'train': 1, 'eval': 1}")  # TensorFlow may talk before

    from aelab.config import Config
    from aelab.data.pipeline import make_train_dataset
    from aelab.data.sources import load_split

    config = Config(batch_size=32, train_examples=100, noise_stddev=0.3)
    whole = make_train_dataset(load_split(config, "train"), config, 0)
    for number, (corrupted, _) in enumerate(whole.take(3)):
        parts = [
            np.fromfile(f"{run_dir}-{worker}-{number}", np.float32) for worker in (0, 1)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), corrupted.numpy().ravel())


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_other_and_the_same_commands_go_on(
    tmp_path, run_dir, victim
):
    """With the figures and weights, bit for bit, of the run that nothing stopped."""
    mine = tmp_path / "run"
    workers = start(mine)
    wait_for_lines(mine, 38)
    workers[victim].kill()
    killed = time.monotonic()
    code, _, message = outcomes(workers)[1 - victim]
    assert time.monotonic() - killed < 60
    assert code == 1
    assert "another worker is gone" in message
    assert "step" in message
    assert "Traceback" not in message
    saved = checkpoints.path_of(RunDirectory(str(mine)).latest, 32)
    assert checkpoints.newest(RunDirectory(str(mine)).latest) == saved
    safe = f"The last good checkpoint is {saved}" if victim == 1 else "with worker 0"
    assert safe in message
    assert [code for code, _, _ in outcomes(start(mine))] == [0, 0]
    assert_same_run(mine, run_dir)


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_both_after_saving(tmp_path, run_dir):
    """To the one that saves nothing."""
    mine = tmp_path / "run"
    workers = start(mine)
    wait_for_lines(mine, 5)
    workers[1].send_signal(signal.SIGTERM)
    found = outcomes(workers)
    assert [code for code, _, _ in found] == [128 + signal.SIGTERM] * 2, found
    assert "SIGTERM: stopped at step" in found[0][2]
    assert checkpoints.newest(RunDirectory(str(mine)).latest)
    assert [code for code, _, _ in outcomes(start(mine))] == [0, 0]
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


def test_workers_that_were_started_differently_say_so(tmp_path):
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
