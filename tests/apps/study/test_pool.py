import os
import signal

import pytest

from aelab.apps.study.description import Trial
from aelab.apps.study.pool import Pool
from aelab.apps.study.slots import Slot, slots
from aelab.config import Config
from aelab.errors import Stopped


@pytest.fixture
def cores(monkeypatch):
    """A machine with six cores and no GPU."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5, 6, 7})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        (1, [[0, 1, 2, 5, 6, 7]]),
        (2, [[0, 1, 2], [5, 6, 7]]),
        (4, [[0], [1], [2], [5]]),
        (8, [[0], [1], [2], [5], [6], [7], [0], [1]]),
    ],
)
def test_processes_have_equal_parts_of_the_cores(cores, jobs, expected):
    assert slots(jobs) == [Slot(part, "") for part in expected]


def test_processes_divide_the_gpus(cores, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5c")
    assert [slot.gpu for slot in slots(3)] == ["2", "GPU-5c", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    assert [slot.gpu for slot in slots(2)] == ["0,2,4", "1,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert [slot.gpu for slot in slots(2)] == ["", ""]


STAND_IN = """
import json, os, signal, sys
for line in sys.stdin:
    request = json.loads(line)
    name = os.path.basename(request["run_dir"])
    with open(request["run_dir"] + ".log", "a") as file:
        print(os.getpid(), file=file)
    if name == "busy-for-a-while":
        name = "a" if os.path.exists(request["run_dir"] + ".free") else "busy"
        open(request["run_dir"] + ".free", "w").close()
    if not name.startswith("busy"):
        print(json.dumps({"step": 1, "steps": 2}), flush=True)
    if name.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("stop"):
        os.kill(os.getppid(), signal.SIGTERM)
        sys.stdin.readline()
    if name.startswith("group"):
        os.kill(os.getppid(), signal.SIGTERM)
    codes = {"busy": 75, "fail": 1, "grou": 143}
    print(json.dumps({"code": codes.get(name[:4], 0), "message": name}), flush=True)
    if name.startswith(("fail", "group")):
        break
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run(names, jobs)` in a stand-in for the process that trains.

    Returns the outcomes by name, the names that were left, and the process of each.
    """
    path = tmp_path / "worker.py"
    path.write_text(STAND_IN)
    monkeypatch.setattr("aelab.apps.study.process._COMMAND", [str(path)])
    monkeypatch.setattr("aelab.apps.study.pool._BUSY_SECONDS", 0.5)

    def work(names, jobs, is_done=lambda trial: False, more=(), **config):
        trials, later = (
            [
                Trial(name, 0, Config(**config.get(name, {})), str(tmp_path / name))
                for name in each
            ]
            for each in (names, more)
        )
        ended, shares = [], []
        with Pool(jobs) as pool:
            left = pool.run(
                *("train", trials, is_done, ended.append, shares.append),
                lambda: [later.pop(0)] if later else [],
            )
        assert shares == sorted(shares) and shares[-1] == len([*names, *more])
        logs = {name: tmp_path / f"{name}.log" for name in names}
        processes = {
            n: log.read_text().split() for n, log in logs.items() if log.exists()
        }
        outcomes = {end.trial.variant: (end.code, end.message) for end in ended}
        return outcomes, [trial.variant for trial in left], processes

    return work


def distinct(processes):
    """The processes that have done runs."""
    return {number for numbers in processes.values() for number in numbers}


def test_one_process_does_several_runs(run):
    outcomes, left, processes = run(["a", "b", "c"], 1)
    assert outcomes == {name: (0, name) for name in "abc"} and left == []
    assert len(distinct(processes)) == 1


def test_runs_with_other_devices_get_a_process_of_their_own(run):
    own = {"virtual_cpus": 2, "strategy": "mirrored"}
    _, _, processes = run(["a", "b", "c"], 1, b=own, c=own | {"seed": 1})
    assert len(distinct(processes)) == 3


def test_a_run_that_fails_or_kills_its_process_does_not_stop_the_others(run):
    outcomes, left, processes = run(["kill", "a", "fail", "b"], 1)
    assert outcomes["kill"][0] == -signal.SIGKILL
    assert "killed by signal 9, perhaps for lack of memory" in (outcomes["kill"][1])
    assert outcomes["fail"] == (1, "fail")
    assert outcomes["a"] == (0, "a") and outcomes["b"] == (0, "b") and left == []
    assert len(distinct(processes)) == 3


def test_a_run_of_another_process_is_tried_again_and_then_left(run):
    outcomes, left, processes = run(["busy", "a"], 1)
    assert outcomes == {"a": (0, "a")} and left == ["busy"]
    assert len(processes["busy"]) > 1


def test_a_run_that_another_process_has_let_go_of_is_done(run):
    outcomes, left, processes = run(["busy-for-a-while", "a"], 2)
    assert outcomes.keys() == {"busy-for-a-while", "a"} and left == []
    assert len(processes["busy-for-a-while"]) == 2


def test_a_search_goes_on_while_another_process_has_a_run(run):
    """One that was killed may take long to save its last run."""
    outcomes, left, _ = run(["busy"], 1, more=["a", "b"])
    assert outcomes == {"a": (0, "a"), "b": (0, "b")} and left == ["busy"]


def test_a_run_that_is_done_when_it_should_begin_is_skipped(run):
    outcomes, left, processes = run(["a", "b"], 1, lambda trial: trial.variant == "a")
    assert outcomes == {"b": (0, "b")} and left == []
    assert processes.keys() == {"b"}


@pytest.mark.parametrize("names", [["stop", "a", "b"], ["stop"]])
def test_a_signal_ends_all_processes(run, names):
    with pytest.raises(Stopped) as caught:
        run(names, 2)
    assert caught.value.signal_number == signal.SIGTERM


def test_a_signal_to_the_whole_group_is_no_failure_of_a_run(run):
    """The last run has saved its state and ended before the study looks."""
    with pytest.raises(Stopped):
        run(["group"], 1)
