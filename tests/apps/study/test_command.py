"""What `scripts/study.py` refuses, prints and trains."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from board import experiment, getter, session_groups
from conftest import metric_lines, run_script, tensorboard

from aelab.apps.study.description import Description
from aelab.apps.study.shown import default_shown
from aelab.apps.study.variants import parse_variants
from aelab.cli import CommandLine
from aelab.config import Config
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory

SMALL = (
    *("--model=dense", "--train_examples=64", "--eval_examples=16", "--batch_size=16"),
    *("--epochs=2", "--optimizer=adadelta"),
)
PICTURES = ("--dataset=images", "--data_dir=pictures", "--model=resunet", "--loss=mse")
TIMES = {"images_per_second", "input_wait"}


def study(folder, *arguments):
    return run_script("study", f"--study_dir={folder}", *arguments)


def refusal(folder, *arguments):
    """The message of a study that is refused; nothing is trained."""
    result = study(folder, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study of two variants and two seeds, and what the script has printed."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    result = study(
        folder, *SMALL, "--vary=learning_rate=0.5,1", "--seeds=2", "--jobs=2"
    )
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def numbers(run_dir):
    """What must be the same in two runs: all arrays, and all lines but times."""
    newest = checkpoints.newest(RunDirectory(str(run_dir)).latest)
    lines = metric_lines(run_dir)
    without = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return checkpoints.load(newest), without


@pytest.mark.slow
def test_every_run_is_a_run_of_its_own(trained, tmp_path):
    """The same bits as from train.py with as many threads."""
    folder, printed = trained
    assert "Study      4 runs: 0 done, 0 to resume, 4 to begin" in printed
    for rate in ("0.5", "1.0"):
        for seed in (0, 1):
            assert f"learning_rate={rate}/seed-{seed}: step 8" in printed
    run_dir = folder / "runs" / "learning_rate=1.0" / "seed-1"
    assert "Run        " in (run_dir / "console.txt").read_text()
    cores = sorted(os.sched_getaffinity(0))
    used = cores[: max(1, len(cores) // 2)]
    result = subprocess.run(
        [
            *("taskset", "--cpu-list", ",".join(map(str, used))),
            *(sys.executable, "scripts/train.py", f"--flagfile={run_dir}/run.flags"),
            f"--run_dir={tmp_path / 'run'}",
        ],
        capture_output=True,
    )
    assert result.returncode == 0
    (arrays, lines), (own, own_lines) = numbers(run_dir), numbers(tmp_path / "run")
    assert lines == own_lines and arrays.keys() == own.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, own[name])
    machine = RunDirectory(str(run_dir)).read_machine()
    assert machine["threads"] == len(used)


@pytest.mark.slow
def test_finished_runs_are_evaluated_on_the_test_part_once(trained):
    folder, _ = trained
    result = study(folder, "--evaluate", "--metrics=psnr")
    assert result.returncode == 0, result.stderr
    files = sorted(folder.glob("runs/*/*/evaluation.json"))
    assert len(files) == len(list(folder.glob("runs/*/*"))) >= 4
    found = json.loads(files[0].read_text())
    assert (found["split"], found["checkpoint"]) == ("test", "best")
    name = files[0].relative_to(folder / "runs").parent
    psnr = f"psnr {found['metrics']['psnr']:.2f}"
    (line,) = [x for x in result.stdout.splitlines() if x.startswith(f"{name}: ")]
    assert "test part" in line and psnr in line
    assert "PSNR, dB (test)" in (folder / "table.md").read_text()
    result = study(folder, "--evaluate")
    assert "test part  " not in result.stdout
    result = study(folder, "--noevaluate", "--table_only")
    assert "(test)" not in (folder / "table.md").read_text()


@pytest.mark.slow
def test_the_same_command_trains_nothing_again_and_more_seeds_may_be_added(trained):
    folder, _ = trained
    before = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/*/config.json")}
    result = study(folder)
    assert result.returncode == 0
    assert "Study      4 runs: 4 done, 0 to resume, 0 to begin" in result.stdout
    result = study(folder, "--seeds=3")
    assert "6 runs: 4 done, 0 to resume, 2 to begin" in result.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(list(folder.glob("runs/*/seed-2/config.json"))) == 2
    message = refusal(folder, "--vary=learning_rate=0.5", "--batch_size=32")
    assert "the variant learning_rate=1.0 is gone" in message
    assert "--batch_size: 16 -> 32" in message


@pytest.mark.slow
def test_tensorboard_compares_the_runs_of_a_study(trained):
    """The flags that differ come first, and each run has its name and its metrics."""
    folder, _ = trained
    with tensorboard(folder) as address:
        get = getter(address)
        rows, found = session_groups(get), experiment(get)["hparamInfos"]
    differing = [info["name"] for info in found if info.get("differs")]
    assert differing == ["learning_rate", "seed"]
    assert [info["name"] for info in found][:2] == differing
    runs = sorted(path.parent for path in folder.glob("runs/*/*/config.json"))
    assert len(rows) == len(runs) >= 4
    for row, run in zip(rows, runs, strict=True):
        variant, seed = run.relative_to(folder / "runs").parts
        assert row["name"] == f"runs/{variant}/{seed}/tensorboard/eval"
        assert f"learning_rate={row['hparams']['learning_rate']:.1f}" == variant
        assert f"seed-{row['hparams']['seed']:.0f}" == seed
        psnr = metric_lines(run, "eval")[-1]["psnr"]
        assert row["metrics"]["", "psnr"] == pytest.approx(psnr, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vary=lr=1"], "there is no flag --lr"),
        (["--vary=loss=l7"], "--loss must be one of"),
        (["--seeds=0"], "--seeds must be at least 1"),
        (["--jobs=0"], "--jobs must be at least 1"),
        (["--seed=3"], "--seeds=N"),
        (["--metrics=psnr,sharpness"], "'sharpness' is not a metric"),
        (["--objective=sharpness"], "--objective: 'sharpness' is not a metric"),
        (["--vary=loss=bce,mse", "--baseline=loss=l7"], "loss=l7 is not a variant"),
        (["--vary=rate_weight=0,1"], "variant rate_weight=1.0: --rate_weight"),
        (["--table_only"], "holds no study"),
        (["--vary=model=dense,nomod:f"], "--model=nomod:f: there is no module nomod"),
        (
            ["--vary=model=dense,nomod:f", "--sampler=random", "--trials=1"],
            "--model=nomod:f: there is no module nomod",
        ),
        (
            ["--evaluate", *PICTURES, "--test_share=0", "--validation_examples=1"],
            "--evaluate contradicts --test_share=0",
        ),
        (
            ["--evaluate", *PICTURES, "--supervision=noise2void", "--corruption=none"],
            "--evaluate contradicts --corruption=none",
        ),
    ],
)
def test_a_bad_study_is_refused_before_anything_is_trained(tmp_path, arguments, words):
    assert words in refusal(tmp_path / "study", *SMALL, *arguments)
    assert os.listdir(tmp_path) == []


def test_a_run_is_not_a_study(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert "is a run" in refusal(tmp_path, *SMALL)


@pytest.mark.parametrize(
    ("variants", "objective"),
    [(["loss=mse"], "psnr"), (["supervision=clean,noise2noise"], "loss")],
)
def test_nothing_is_chosen_by_metrics_that_need_clean_images(variants, objective):
    values = {"loss": "mse", "noise_stddev": 0.1}
    description = Description(values, parse_variants(variants), 1)
    assert default_shown(description).objective == objective
    for given in ({"supervision": "noise2void"}, {"supervision": "noise2noise"}):
        shown = default_shown(Description(values | given, parse_variants([]), 1))
        assert (shown.metrics, shown.objective) == (("loss",), "loss")


def test_a_search_without_clean_images_goes_by_the_loss(tmp_path):
    given = [*SMALL, "--supervision=noise2noise", "--noise_stddev=0.1", "--loss=mse"]
    given += ["--sampler=tpe", "--trials=2", "--vary=learning_rate=log:0.1..1"]
    message = refusal(tmp_path / "a", *given, "--objective=psnr")
    assert "--objective=psnr compares with clean images" in message


def test_a_dry_run_prints_the_commands(tmp_path):
    arguments = ("--vary=loss=bce,mse", "--seeds=2", "--dry_run")
    result = study(tmp_path / "a (b)", *SMALL, *arguments)
    assert result.returncode == 0 and os.listdir(tmp_path) == []
    commands = [shlex.split(line) for line in result.stdout.splitlines()]
    assert len(commands) == 4
    script, *flags = commands[3]
    assert script == "scripts/train.py"
    cli = CommandLine("")
    cli.add_path("run_dir", "", "DIR")
    cli.add_config()
    args = cli.parse([script, *flags])
    expected = {"train_examples": 64, "eval_examples": 16, "batch_size": 16}
    expected |= {"model": "dense", "epochs": 2, "optimizer": "adadelta"}
    assert cli.config() == Config(**expected, loss="mse", seed=1)
    assert args.run_dir == str(tmp_path / "a (b)" / "runs" / "loss=mse" / "seed-1")


@pytest.mark.slow
def test_a_diverging_run_is_a_result_and_a_failing_one_is_not(tmp_path):
    folder = tmp_path / "study"
    variants = tmp_path / "variants.txt"
    variants.write_text(
        "good:\n"
        "diverging: --optimizer=sgd --learning_rate=1e38 --l1_activity=1e30\n"
        "failing: --dataset=idx --data_dir=/nowhere\n"
    )
    flags = [f for f in SMALL if "optimizer" not in f]
    result = study(folder, *flags, f"--vary=@{variants}")
    assert result.returncode == 1
    assert "good/seed-0: step 8" in result.stdout
    assert "diverging/seed-0: diverged at step " in result.stdout
    assert "1 of 3 runs have failed" in result.stderr
    assert "failing/seed-0: --data_dir=/nowhere is not a folder" in result.stderr


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "scripts/study.py", f"--study_dir={folder}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_step(path, seconds=60):
    """Waits until the run in `path` has logged a step."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.stat().st_size:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} has no line")


LONG = (*SMALL, "--epochs=100000", "--log_every_steps=20")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_study_leaves_no_process_and_saved_runs(tmp_path, number):
    """Killed, its processes find that nobody is there any more."""
    process = start(tmp_path, *LONG)
    run = tmp_path / "runs" / "only" / "seed-0"
    wait_for_step(run / "metrics.jsonl")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -9)
    end = time.monotonic() + 30
    while "is saved" not in (run / "console.txt").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    saved = checkpoints.newest(str(run / "checkpoints" / "latest"))
    assert f"stopped at step {int(Path(saved).stem[5:])}" in (
        (run / "console.txt").read_text()
    )


@pytest.mark.slow
def test_two_studies_of_one_folder_divide_the_runs(tmp_path):
    arguments = (*SMALL, "--vary=learning_rate=0.5,1,2,3")
    both = [start(tmp_path, *arguments) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    ended = [line.split(":")[0] for out, _ in outputs for line in out.splitlines()]
    ended = [name for name in ended if name.startswith("learning_rate")]
    assert sorted(ended) == [
        f"learning_rate={n}/seed-0" for n in ("0.5", "1.0", "2.0", "3.0")
    ]
    assert (
        json.loads((tmp_path / "study.json").read_text())["description"]["seeds"] == 1
    )
