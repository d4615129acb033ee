"""A search by TPE, in a stand-in for the process that trains."""

import contextlib
import json
import os

import pytest
import study

from aelab.apps.study.description import make_description
from aelab.apps.study.journal import Journal, read_trials
from aelab.apps.study.ranges import TPE, parse_search
from aelab.apps.study.search import SearchRuns
from aelab.apps.study.state import (
    DIVERGED,
    FINISHED,
    MISSING,
    STARTED,
    Curve,
    RunState,
)
from aelab.apps.study.study import Work, read_results, train_study, with_trials
from aelab.apps.study.wording import count_text
from aelab.errors import TrainingError

optuna = pytest.importorskip("optuna")

# Writes how a run ended, as plan.json says by the trial and the seed. The objective is
# the learning rate, and of a poor run -1; a poor run ends when it is stopped.
STAND_IN = """
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    run_dir = request["run_dir"]
    folder, name = run_dir.split("/runs/")
    with open(folder + "/plan.json") as file:
        plan = json.load(file).get(name, "finished")
    os.makedirs(run_dir, exist_ok=True)
    with open(folder + "/begun.txt", "a") as file:
        print(name, file=file)
    value = -1 if plan == "poor" else request["config"]["learning_rate"]
    with open(run_dir + "/metrics.jsonl", "w") as file:
        print(json.dumps({"step": 5, "split": "eval", "psnr": value}), file=file)
    kind = "started" if plan in ("poor", "failed") else plan
    with open(run_dir + "/state.json", "w") as file:
        json.dump([kind, 5, 5, 100], file)
    if plan == "poor":
        print(json.dumps({"step": 1, "steps": 2}), flush=True)
        sys.stdin.readline()
    code = {"finished": 0, "poor": 143}.get(plan, 1)
    print(json.dumps({"code": code, "message": plan}), flush=True)
    if code:
        break
"""


def state(path, config):
    try:
        with open(os.path.join(path, "state.json")) as file:
            return RunState(*json.load(file))
    except OSError:
        return RunState(MISSING)


def curve(path, best_step):
    try:
        with open(os.path.join(path, "metrics.jsonl")) as file:
            return Curve({"psnr": json.load(file)["psnr"]}, [], {}, 1.0)
    except OSError:
        return Curve({}, [], {}, 1.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text(STAND_IN)
    command = [str(tmp_path / "worker.py")]
    monkeypatch.setattr("aelab.apps.study.process._COMMAND", command)
    for module in ("study", "search", "progress"):
        monkeypatch.setattr(f"aelab.apps.study.{module}.run_state", state)
        monkeypatch.setattr(f"aelab.apps.study.{module}.read_curve", curve)
    plan(tmp_path)
    return tmp_path


def plan(folder, **kinds):
    """How runs end; `t3s1="failed"` is of the trial 3 and the seed 1."""
    names = {f"trial-{int(k[1]):03d}/seed-{k[3]}": v for k, v in kinds.items()}
    (folder / "plan.json").write_text(json.dumps(names))


def describe(trials, seeds):
    found = parse_search(TPE, ["learning_rate=log:0.01..1"], trials)
    return make_description({}, [], seeds, found)


def train(folder, trials, seeds=1, **work):
    """Trains a search; returns its results and Optuna's trials."""
    description = describe(trials, seeds)
    try:
        train_study(str(folder), description, Work(**work))
    finally:
        description = with_trials(str(folder), description)
        results = read_results(str(folder), description)
    return results, frozen(folder, description)


def frozen(folder, description):
    return Journal(str(folder), description.search, "psnr")._frozen()


def begun(folder):
    return (folder / "begun.txt").read_text().split()


def test_the_value_of_a_trial_is_the_mean_of_its_seeds(folder, capsys):
    results, trials = train(folder, 3, seeds=2, jobs=2)
    assert "3 trials: 0 done, 0 to resume, 3 to begin" in capsys.readouterr().out
    names = [f"trial-00{trial}/seed-{seed}" for trial in range(3) for seed in range(2)]
    assert sorted(begun(folder)) == names
    for result, trial in zip(results, trials, strict=True):
        assert [run.state.kind for run in result.runs] == [FINISHED] * 2
        assert trial.value == pytest.approx(result.flags["learning_rate"])


def test_more_trials_and_seeds_may_be_added(folder):
    train(folder, 2)
    train(folder, 3, seeds=2)
    assert begun(folder) == [
        *("trial-000/seed-0", "trial-001/seed-0"),
        *("trial-000/seed-1", "trial-001/seed-1"),
        *("trial-002/seed-0", "trial-002/seed-1"),
    ]
    train(folder, 3, seeds=2)
    assert len(begun(folder)) == 6


def test_a_trial_whose_seed_fails_is_tried_again_by_the_next_call(folder):
    """It has no value till then."""
    plan(folder, t0s0="failed", t1s1="failed")
    with pytest.raises(TrainingError) as caught:
        train(folder, 3, seeds=2)
    assert "2 of 6 runs have failed" in str(caught.value)
    assert "trial-000/seed-0: failed" in str(caught.value)
    states = [trial.state.name for trial in frozen(folder, describe(3, 2))]
    assert states == ["RUNNING", "RUNNING", "COMPLETE"]
    # The other seeds of a trial whose first one has no result are not trained.
    assert "trial-000/seed-1" not in begun(folder)
    plan(folder)
    (folder / "begun.txt").unlink()
    _, trials = train(folder, 3, seeds=2)
    assert begun(folder) == [
        *("trial-000/seed-0", "trial-001/seed-1", "trial-000/seed-1"),
    ]
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3


def test_a_trial_whose_seed_diverges_has_failed(folder):
    plan(folder, t0s0="diverged", t1s1="diverged")
    results, trials = train(folder, 3, seeds=2)
    assert [trial.state.name for trial in trials] == ["FAIL", "FAIL", "COMPLETE"]
    assert "trial-000/seed-1" not in begun(folder)
    plan(folder)
    (folder / "begun.txt").unlink()
    results, _ = train(folder, 3, seeds=2)
    assert not (folder / "begun.txt").exists()
    assert results[0].runs[0].state.kind == DIVERGED
    results, _ = train(folder, 3, seeds=2, retry_failed=True)
    assert {run.state.kind for result in results for run in result.runs} == {FINISHED}


def test_a_resumed_search_knows_how_many_runs_are_left(folder):
    plan(folder, t0s0="failed")
    with pytest.raises(TrainingError):
        train(folder, 2, seeds=3)
    done = {FINISHED, DIVERGED}
    assert SearchRuns(str(folder), describe(4, 3), "psnr", done).total == 3 + 2 * 3


def test_a_poor_trial_is_stopped_and_runs_no_other_seeds(folder, capsys):
    plan(folder, t5s0="poor")
    results, trials = train(folder, 7, seeds=2)
    assert "trial-005/seed-0: pruned at step 5" in capsys.readouterr().out
    assert [trial.state.name for trial in trials] == [
        *["COMPLETE"] * 5,
        *("PRUNED", "COMPLETE"),
    ]
    assert "trial-005/seed-1" not in begun(folder)
    assert count_text(results[5]) == "pruned at step 5"
    # Whatever the machine's speed, the median rule knows all evaluations.
    assert all(trial.intermediate_values for trial in trials)
    # It is not trained again, unless by hand.
    train(folder, 7, seeds=2)
    assert begun(folder).count("trial-005/seed-0") == 1
    (folder / "runs/trial-005/seed-0/state.json").write_text('["finished", 9, 9, 1]')
    results = read_results(str(folder), with_trials(str(folder), describe(7, seeds=2)))
    assert count_text(results[5]) == "1 of 2 seeds"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("place", ["run_state", "say"])
def test_a_killed_search_ends_as_one_that_was_not_killed(folder, monkeypatch, place):
    """Before or after it takes note of every third run that ends."""
    train(folder, 12, seeds=2)
    expected = [trial.params for trial in frozen(folder, describe(12, 2))]
    other = folder / "other"
    other.mkdir()
    plan(other)
    ended = 0

    def killed(*arguments):
        nonlocal ended
        ended += 1
        if ended % 3 == 0:
            raise Killed
        return state(*arguments) if place == "run_state" else None

    monkeypatch.setattr(f"aelab.apps.study.progress.{place}", killed)
    trials = None
    while trials is None:
        with contextlib.suppress(Killed):
            _, trials = train(other, 12, seeds=2)
    assert [trial.params for trial in trials] == expected
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert len(begun(other)) == len(set(begun(other))) == 24


def test_only_the_best_trial_is_evaluated(folder, monkeypatch):
    evaluated = []

    def evaluate(pool, trials):
        evaluated.extend(trials)
        return type("Left", (), {"failed": []})

    monkeypatch.setattr("aelab.apps.study.study._evaluate", evaluate)
    results, _ = train(folder, 4, seeds=2, evaluate=True)
    best = max(results, key=lambda result: result.flags["learning_rate"])
    assert {(run.variant, run.seed) for run in evaluated} == {
        (best.name, 0),
        (best.name, 1),
    }


def test_a_search_is_evaluated_only_by_a_command_that_asks_for_it(folder, monkeypatch):
    asked = []

    def trained(folder, description, work):
        asked.append(work.evaluate)
        return 1

    monkeypatch.setattr("aelab.apps.study.command.train_study", trained)
    command = ["study.py", f"--study_dir={folder / 'study'}", "--trials=2"]
    command += ["--vary=learning_rate=log:0.01..1", "--sampler=random"]
    for flags in (["--evaluate"], ["--trials=3"], ["--trials=3", "--evaluate"]):
        study.main([*command, *flags])
    assert asked == [True, False, True]


def test_a_run_that_was_stopped_by_other_means_is_not_pruned(folder):
    plan(folder, t0s0="failed")
    with pytest.raises(TrainingError):
        train(folder, 1)
    search = describe(1, 1).search
    assert read_trials(str(folder), search)[1] == set()
    assert state(folder / "runs/trial-000/seed-0", None).kind == STARTED
