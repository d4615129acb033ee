import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import ROOT, run_script, write_idx

from aelab.cli import exit_code
from aelab.config import FIELDS

SCRIPTS = {p.stem: p for f in ("scripts", "tools") for p in (ROOT / f).glob("*.py")}
TINY = ("--dataset=idx", "--model=dense", "--encoding_dim=4", "--train_steps=3")
TINY += ("--batch_size=8",)
IMPORTED = 86

# Runs scripts, one per line of standard input: a JSON list of path and arguments.
RUNNER = """
import contextlib, importlib, io, json, pathlib, sys
from aelab.cli import exit_code
for line in sys.stdin:
    sys.argv = json.loads(line)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            script = importlib.import_module(pathlib.Path(sys.argv[0]).stem)
            code = exit_code(script.main)
        except SystemExit as exit:
            code = exit.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def run_without_tensorflow(tmp_path_factory):
    """Runs scripts in a process that importing TensorFlow or Keras ends."""
    stubs = tmp_path_factory.mktemp("stubs")
    for name in ("tensorflow", "keras"):
        (stubs / f"{name}.py").write_text(f"import os\nos._exit({IMPORTED})\n")
    path = os.pathsep.join(map(str, (stubs, ROOT, ROOT / "scripts", ROOT / "tools")))
    command = [sys.executable, "-c", RUNNER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = []

    def run(script, *arguments):
        if not processes:
            env = {**os.environ, "PYTHONPATH": path}
            processes.append(subprocess.Popen(command, env=env, **pipes))
        (process,) = processes
        words = [str(SCRIPTS[script]), *map(str, arguments)]
        process.stdin.write(json.dumps(words) + "\n")
        process.stdin.flush()
        if answer := process.stdout.readline():
            return Result(*json.loads(answer))
        processes.clear()
        with process:
            return Result(process.wait(), "", "")

    yield run
    for process in processes:
        with process:
            process.stdin.close()


def refusal(result):
    """The message of a script that exits with 2 and prints nothing else."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Runs scripts in this process, where TensorFlow has started."""
    monkeypatch.setattr(
        "aelab.system.startup.start_tensorflow", lambda *arguments: None
    )
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        capsys.readouterr()
        code = exit_code(importlib.import_module(script).main)
        return Result(code, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of three steps on 16 x 12 images. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    images = np.random.default_rng(0).integers(0, 256, (50, 16, 12), dtype=np.uint8)
    write_idx(folder / "train-images-idx3-ubyte", images)
    write_idx(folder / "t10k-images-idx3-ubyte", images[:9])
    run_dir = folder / "run"
    flags = [*TINY, f"--data_dir={folder}", f"--run_dir={run_dir}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aelab.system.startup.start_tensorflow", lambda *arguments: None)
        importlib.import_module("train").main(["train.py", *flags])
    return run_dir


@pytest.fixture
def run_dir(trained, tmp_path):
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def content(folder):
    """Every file and folder below `folder`, by its name."""
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def newest(folder):
    """The only checkpoint in a folder."""
    (path,) = folder.glob("step-*.npz")
    return path


def test_the_scripts_are_executable():
    assert {"train", "evaluate", "export", "denoise"} <= set(SCRIPTS)
    for path in SCRIPTS.values():
        assert os.access(path, os.X_OK)
        assert path.read_text().startswith("#!/usr/bin/env python3\n")


def test_the_stub_notices_tensorflow(run_without_tensorflow, idx_folder, tmp_path):
    good = (*TINY, f"--data_dir={idx_folder}", f"--run_dir={tmp_path / 'run'}")
    assert run_without_tensorflow("train", *good).returncode == IMPORTED


def check_help(name, result):
    assert (result.returncode, result.stderr) == (0, "")
    assert str(SCRIPTS[name].relative_to(ROOT)) in result.stdout
    assert "--flagfile=FILE" in result.stdout
    if name == "train":
        assert all(f"--{field}=" in result.stdout for field in FIELDS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name, run_without_tensorflow):
    check_help(name, run_without_tensorflow(name, "--help"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_unknown_flag_is_named(name, run_without_tensorflow):
    assert "nonesuch" in refusal(run_without_tensorflow(name, "--nonesuch=3"))


@pytest.mark.parametrize("name", ["train", "soak"])
def test_help_and_an_unknown_flag_in_a_process(name):
    check_help(name, run_script(name, "--help"))
    assert "nonesuch" in refusal(run_script(name, "--nonesuch=3"))


@pytest.mark.parametrize(
    ("script", "arguments", "names"),
    [
        ("train", [], ["--run_dir"]),
        ("train", ["--run_dir=RUN", "--epochs=ten"], ["--epochs", "'ten'"]),
        ("train", ["--run_dir=RUN", "--batch_size=0"], ["--batch_size", "at least 1"]),
        ("train", ["--run_dir=RUN", "--learning_rate"], ["--learning_rate"]),
        ("train", ["--run_dir=RUN", "--dataset=mnist"], ["--dataset", "synthetic"]),
        ("train", ["--run_dir=RUN", "--dataset=idx"], ["--data_dir"]),
        ("train", ["--run_dir=RUN", "--encoding_dim=8"], ["--encoding_dim", "conv"]),
        ("train", ["--run_dir=RUN", "--flagfile=RUN.flags"], ["RUN.flags"]),
        ("train", ["--run_dir=RUN", "extra"], ["'extra'"]),
        ("evaluate", [], ["--run_dir"]),
        ("evaluate", ["--run_dir=RUN", "--checkpoint=newest"], ["--checkpoint"]),
        ("evaluate", ["--run_dir=RUN", "--epochs=3"], ["epochs"]),
        ("evaluate", ["--run_dir=RUN", "--noise_stddevs=0.1,x"], ["--noise_stddevs"]),
        ("evaluate", ["--run_dir=RUN", "--floors=maybe"], ["--floors", "true"]),
        ("denoise", ["a.png", "--output=out"], ["--run_dir"]),
        ("denoise", ["--run_dir=RUN", "a.png"], ["--output"]),
        ("denoise", ["--run_dir=RUN", "--output=out"], ["INPUT"]),
        ("denoise", ["--run_dir=RUN", "a.png", "--sharpen"], ["sharpen"]),
        ("evaluate", ["--run_dir=gs://b/a"], ["--run_dir=gs://b/a", "mounted"]),
        ("export", ["--run_dir=RUN"], ["--output"]),
        ("export", ["--output=a.keras"], ["--run_dir"]),
        (
            "export",
            ["--run_dir=RUN", "--output=a.keras", "--checkpoint=newest"],
            ["--checkpoint", "newest", "best", "latest"],
        ),
        ("report", ["--output=a.html"], ["--run_dir"]),
        ("report", ["RUN"], ["--output"]),
        ("report", ["RUN", "--output=RUN.html", "--x_axis=loss"], ["epoch", "step"]),
        ("report", ["--run_dir=RUN,RUN", "--output=RUN.html"], ["--run_dir=RUN holds"]),
        ("report", ["RUN", "--output=RUN.html"], ["--run_dir=RUN", "no run"]),
    ],
)
def test_bad_flags_are_named(
    script, arguments, names, run_without_tensorflow, tmp_path
):
    run = str(tmp_path / "run")
    arguments = [argument.replace("RUN", run) for argument in arguments]
    message = refusal(run_without_tensorflow(script, *arguments))
    assert all(name.replace("RUN", run) in message for name in names)
    assert os.listdir(tmp_path) == []


def test_a_missing_data_folder_is_named_in_a_process(tmp_path):
    """In a process that has started TensorFlow, which must not add output."""
    arguments = (f"--data_dir={tmp_path / 'none'}", f"--run_dir={tmp_path / 'run'}")
    message = refusal(run_script("train", *TINY, *arguments))
    assert f"--data_dir={tmp_path / 'none'}" in message
    assert os.listdir(tmp_path) == []


def test_a_damaged_data_file_is_named(run_here, idx_folder, tmp_path):
    path = idx_folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    arguments = (f"--data_dir={idx_folder}", f"--run_dir={tmp_path / 'run'}")
    assert str(path) in refusal(run_here("train", *TINY, *arguments))
    assert os.listdir(tmp_path) == ["data"]


def test_an_image_size_that_conv_cannot_take_is_refused(run_here, idx_folder, tmp_path):
    for prefix in ("train", "t10k"):
        images = np.zeros((9, 13, 30), np.uint8)
        write_idx(idx_folder / f"{prefix}-images-idx3-ubyte.gz", images)
        (idx_folder / f"{prefix}-labels-idx1-ubyte.gz").unlink()
    arguments = (f"--data_dir={idx_folder}", f"--run_dir={tmp_path / 'run'}")
    message = refusal(run_here("train", "--dataset=idx", "--model=conv", *arguments))
    assert "--model=conv" in message and "13 x 30" in message
    assert "multiples of 4" in message and "16 x 32" in message
    assert os.listdir(tmp_path) == ["data"]


def test_an_unwritable_run_directory_is_named(run_here, idx_folder, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    arguments = (f"--data_dir={idx_folder}", f"--run_dir={file / 'run'}")
    message = refusal(run_here("train", *TINY, *arguments))
    assert f"--run_dir={file / 'run'} can't be written" in message
    assert file.read_text() == "mine"


def test_a_run_of_another_configuration_is_not_changed(run_here, run_dir, trained):
    before = content(run_dir)
    flagfile = f"--flagfile={run_dir / 'run.flags'}"
    arguments = (f"--run_dir={run_dir}", "--noise_stddev=0.5", "--seed=7")
    message = refusal(run_here("train", flagfile, *arguments, "--train_steps=9"))
    assert f"--run_dir={run_dir}" in message
    assert "--noise_stddev: 0.0 -> 0.5" in message and "--seed: 0 -> 7" in message
    assert "train_steps" not in message
    assert content(run_dir) == before


def test_damaged_checkpoints_are_not_trained_on(run_here, run_dir):
    paths = list((run_dir / "checkpoints" / "latest").iterdir())
    assert len(paths) > 1
    for path in paths:
        path.write_bytes(path.read_bytes()[:-200])
    before = content(run_dir)
    flagfile = f"--flagfile={run_dir / 'run.flags'}"
    message = refusal(run_here("train", flagfile, f"--run_dir={run_dir}"))
    for path in paths:
        assert str(path) in message
    assert content(run_dir) == before


def test_a_damaged_checkpoint_is_not_evaluated(run_here, run_dir):
    path = newest(run_dir / "checkpoints" / "best")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    path.write_bytes(damaged)
    assert str(path) in refusal(run_here("evaluate", f"--run_dir={run_dir}"))
    assert not (run_dir / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("train", []),
        ("evaluate", []),
        ("export", ["--output=model.keras"]),
        ("denoise", ["picture.png", "--output=out"]),
        ("compress", ["picture.png", "--output=out.aelab"]),
        ("decompress", ["in.aelab", "--output=out"]),
    ],
)
def test_a_folder_without_a_run_is_named(
    script, arguments, run_without_tensorflow, tmp_path
):
    (tmp_path / "images").mkdir()
    if script == "train":
        (tmp_path / "config.json").mkdir()
    names = os.listdir(tmp_path)
    result = run_without_tensorflow(script, f"--run_dir={tmp_path}", *arguments)
    assert f"--run_dir={tmp_path} holds no run" in refusal(result)
    assert os.listdir(tmp_path) == names


def test_each_folder_of_rate_distortion_must_hold_a_run(
    trained, run_without_tensorflow, tmp_path
):
    result = run_without_tensorflow("rate_distortion", trained, tmp_path, "--output=a")
    assert f"--run_dir={tmp_path} holds no run" in refusal(result)


def test_a_run_without_a_checkpoint_is_not_exported(run_here, run_dir, tmp_path):
    newest(run_dir / "checkpoints" / "best").unlink()
    output = tmp_path / "model.keras"
    result = run_here("export", f"--run_dir={run_dir}", f"--output={output}")
    message = refusal(result)
    assert f"--run_dir={run_dir}" in message and "best checkpoint" in message
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("output", "names"),
    [("model.h5", ["model.h5", ".keras"]), ("none/model.keras", ["folder", "none"])],
)
def test_a_bad_name_of_an_export_is_refused(
    trained, run_without_tensorflow, tmp_path, output, names
):
    output = tmp_path / output
    arguments = (f"--run_dir={trained}", f"--output={output}")
    message = refusal(run_without_tensorflow("export", *arguments))
    assert f"--output={output}" in message
    assert all(name in message for name in names)
    assert os.listdir(tmp_path) == []
