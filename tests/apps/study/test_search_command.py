"""What `scripts/study.py` does with the flags of a search."""

import json
import os
import sys

import pytest
from conftest import run_forked

from aelab.system.lock import exclusive_lock

SMALL = (
    *("--model=dense", "--train_examples=64", "--eval_examples=16", "--batch_size=16"),
    *("--epochs=2", "--optimizer=adadelta"),
)
RATES = "--vary=learning_rate=log:0.1..1"


def study(folder, *arguments, **how):
    return run_forked("study", f"--study_dir={folder}", *arguments, **how)


def refusal(folder, *arguments, **how):
    """The message of a search that is refused."""
    result = study(folder, *SMALL, *arguments, **how)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr
    return result.stderr


def hide_optuna():
    sys.modules["optuna"] = None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([RATES], "a range needs --sampler=random or tpe"),
        (["--trials=3"], "--trials needs --sampler=random or tpe"),
        ([RATES, "--sampler=tpe"], "--sampler=tpe needs --trials=N"),
        ([RATES, "--sampler=tpe", "--trials=0"], "--sampler=tpe needs --trials=N"),
        (["--sampler=random", "--trials=3"], "--sampler=random needs --vary"),
        (["--sampler=cmaes", "--trials=3"], "--sampler"),
        (
            ["--vary=learning_rate=1..0.1", "--sampler=tpe", "--trials=3"],
            "--vary=learning_rate=1..0.1: the lower end comes first",
        ),
        (
            ["--vary=rate_weight=0..1", "--sampler=tpe", "--trials=3"],
            "variant rate_weight=1.0: --rate_weight",
        ),
        (
            [RATES, "--sampler=tpe", "--trials=3", "--baseline=trial-003"],
            "--baseline=trial-003 is not a variant",
        ),
        ([RATES, "--sampler=tpe", "--trials=3", "--dry_run"], "depend on results"),
    ],
)
def test_a_bad_search_is_refused_before_anything_is_trained(tmp_path, arguments, words):
    assert words in refusal(tmp_path / "study", *arguments)
    assert os.listdir(tmp_path) == []


def test_without_optuna_the_message_has_the_command_that_installs_it(tmp_path):
    arguments = (RATES, "--sampler=tpe", "--trials=3")
    message = refusal(tmp_path / "study", *arguments, prepare=hide_optuna)
    assert "-e '.[study]'" in message and "optuna" in message
    assert os.listdir(tmp_path) == []
    arguments = (*SMALL, RATES, "--sampler=random", "--trials=3", "--dry_run")
    assert study(tmp_path, *arguments, prepare=hide_optuna).returncode == 0


def test_a_random_search_is_known_before_it_begins(tmp_path):
    arguments = (*SMALL, RATES, "--sampler=random", "--dry_run")
    few = study(tmp_path, *arguments, "--trials=2").stdout.splitlines()
    many = study(tmp_path, *arguments, "--trials=3", "--jobs=2").stdout.splitlines()
    assert many[:2] == few and len(many) == 3
    assert f"--run_dir={tmp_path}/runs/trial-002/seed-0" in many[2]


@pytest.mark.slow
def test_a_search_trains_and_goes_on(tmp_path):
    pytest.importorskip("optuna")
    folder = tmp_path / "study"
    result = study(folder, *SMALL, RATES, "--sampler=tpe", "--trials=2", "--seeds=2")
    assert result.returncode == 0, result.stderr
    content = json.loads((folder / "study.json").read_text())
    assert content["description"]["search"]["trials"] == 2
    assert [trial["name"] for trial in content["trials"]] == ["trial-000", "trial-001"]
    assert content["trials"][0]["metrics"]["psnr"]["n"] == 2
    assert "The best of many" in " ".join((folder / "table.md").read_text().split())
    config = json.loads((folder / "runs/trial-001/seed-1/config.json").read_text())
    assert config["learning_rate"] == content["trials"][1]["flags"]["learning_rate"]
    assert "2 done, 0 to resume, 0 to begin" in study(folder).stdout
    assert "goes by psnr" in study(folder, "--objective=ssim").stderr
    with exclusive_lock(str(folder / "lock"), "x"):
        message = study(folder, "--trials=3")
        assert message.returncode == 2 and "is being written by" in message.stderr
        assert study(folder, "--table_only").returncode == 0
