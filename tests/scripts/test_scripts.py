import importlib
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_script, write_idx

from aelab.cli import flags
from aelab.config import FIELDS

SCRIPTS = {p.stem: p for f in ("scripts", "tools") for p in (ROOT / f).glob("*.py")}
TINY = ("--dataset=idx", "--model=dense", "--encoding_dim=4", "--train_steps=3")
TINY += ("--batch_size=8",)
IMPORTED = 86


@pytest.fixture(scope="session")
def without_tensorflow(tmp_path_factory):
    """An environment in which importing TensorFlow or Keras ends the process."""
    folder = tmp_path_factory.mktemp("stubs")
    for name in ("tensorflow", "keras"):
        (folder / f"{name}.py").write_text(f"import os\nos._exit({IMPORTED})\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of three steps on 16 x 12 images. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    images = np.random.default_rng(0).integers(0, 256, (50, 16, 12), dtype=np.uint8)
    write_idx(folder / "train-images-idx3-ubyte", images)
    write_idx(folder / "t10k-images-idx3-ubyte", images[:9])
    run_dir = folder / "run"
    result = run_script("train", *TINY, f"--data_dir={folder}", f"--run_dir={run_dir}")
    assert (result.returncode, result.stderr) == (0, "")
    return run_dir


@pytest.fixture
def run_dir(trained, tmp_path):
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def content(folder):
    """Every file and folder below `folder`, by its name."""
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refusal(script, *arguments, env=None):
    """What a script says that exits with 2, having said nothing else."""
    result = run_script(script, *map(str, arguments), env=env)
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def refusal_here(monkeypatch, capsys):
    """`refusal`, in this process: for what is found once TensorFlow has started."""
    monkeypatch.setattr(
        "aelab.system.startup.start_tensorflow", lambda *arguments: None
    )
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}

    def refused(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        capsys.readouterr()
        assert flags.exit_code(importlib.import_module(script).main) == 2
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors.startswith("error: ") and errors.count("error: ") == 1
        return errors

    yield refused
    for number, handler in handlers.items():
        signal.signal(number, handler)


def newest(folder):
    """The one checkpoint in a folder."""
    (path,) = folder.glob("step-*.npz")
    return path


def test_the_scripts_of_the_contract_are_there():
    assert {"train", "evaluate", "export", "denoise"} <= set(SCRIPTS)
    for path in SCRIPTS.values():
        assert os.access(path, os.X_OK)
        assert path.read_text().startswith("#!/usr/bin/env python3\n")


def test_the_stub_notices_tensorflow(without_tensorflow, idx_folder, tmp_path):
    good = (*TINY, f"--data_dir={idx_folder}", f"--run_dir={tmp_path / 'run'}")
    assert run_script("train", *good, env=without_tensorflow).returncode == IMPORTED


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name, without_tensorflow):
    result = run_script(name, "--help", env=without_tensorflow)
    assert (result.returncode, result.stderr) == (0, "")
    assert str(SCRIPTS[name].relative_to(ROOT)) in result.stdout
    assert "--flagfile=FILE" in result.stdout
    if name == "train":
        assert all(f"--{field}=" in result.stdout for field in FIELDS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_unknown_flag_is_named(name, without_tensorflow):
    assert "nonesuch" in refusal(name, "--nonesuch=3", env=without_tensorflow)


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
        ("train", ["--run_dir=RUN", "stray"], ["'stray'"]),
        ("evaluate", [], ["--run_dir"]),
        ("evaluate", ["--run_dir=RUN", "--checkpoint=newest"], ["--checkpoint"]),
        ("evaluate", ["--run_dir=RUN", "--epochs=3"], ["epochs"]),
        ("evaluate", ["--run_dir=RUN", "--noise_stddevs=0.1,x"], ["--noise_stddevs"]),
        ("evaluate", ["--run_dir=RUN", "--floors=maybe"], ["--floors", "true"]),
        ("denoise", ["a.png", "--output=out"], ["--run_dir"]),
        ("denoise", ["--run_dir=RUN", "a.png"], ["--output"]),
        ("denoise", ["--run_dir=RUN", "--output=out"], ["INPUT"]),
        ("denoise", ["--run_dir=RUN", "a.png", "--sharpen"], ["sharpen"]),
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
        ("report", ["--run_dir=RUN,RUN", "--output=RUN.html"], ["--run_dir", "same"]),
        ("report", ["RUN", "--output=RUN.html"], ["--run_dir=RUN", "no run"]),
    ],
)
def test_bad_flags(script, arguments, names, without_tensorflow, tmp_path):
    run = str(tmp_path / "run")
    arguments = [argument.replace("RUN", run) for argument in arguments]
    message = refusal(script, *arguments, env=without_tensorflow)
    assert all(name.replace("RUN", run) in message for name in names)
    assert os.listdir(tmp_path) == []


def test_a_missing_data_folder(tmp_path):
    arguments = (f"--data_dir={tmp_path / 'none'}", f"--run_dir={tmp_path / 'run'}")
    assert f"--data_dir={tmp_path / 'none'}" in refusal("train", *TINY, *arguments)
    assert os.listdir(tmp_path) == []


def test_a_damaged_data_file(refusal_here, idx_folder, tmp_path):
    path = idx_folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    arguments = (f"--data_dir={idx_folder}", f"--run_dir={tmp_path / 'run'}")
    assert str(path) in refusal_here("train", *TINY, *arguments)
    assert os.listdir(tmp_path) == ["data"]


def test_an_image_size_that_conv_cannot_take(refusal_here, idx_folder, tmp_path):
    for prefix in ("train", "t10k"):
        images = np.zeros((9, 13, 30), np.uint8)
        write_idx(idx_folder / f"{prefix}-images-idx3-ubyte.gz", images)
        (idx_folder / f"{prefix}-labels-idx1-ubyte.gz").unlink()
    arguments = (f"--data_dir={idx_folder}", f"--run_dir={tmp_path / 'run'}")
    message = refusal_here("train", "--dataset=idx", "--model=conv", *arguments)
    assert "--model=conv" in message and "13 x 30" in message
    assert "multiples of 4" in message and "16 x 32" in message
    assert os.listdir(tmp_path) == ["data"]


def test_a_run_directory_that_cannot_be_written(refusal_here, idx_folder, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    arguments = (f"--data_dir={idx_folder}", f"--run_dir={file / 'run'}")
    message = refusal_here("train", *TINY, *arguments)
    assert f"--run_dir={file / 'run'} can't be written" in message
    assert file.read_text() == "mine"


def test_a_run_of_another_configuration_stays_as_it_is(refusal_here, run_dir, trained):
    before = content(run_dir)
    flagfile = f"--flagfile={run_dir / 'run.flags'}"
    arguments = (f"--run_dir={run_dir}", "--noise_stddev=0.5", "--seed=7")
    message = refusal_here("train", flagfile, *arguments, "--train_steps=9")
    assert f"--run_dir={run_dir}" in message
    assert "--noise_stddev: 0.0 -> 0.5" in message and "--seed: 0 -> 7" in message
    assert "train_steps" not in message
    assert content(run_dir) == before


def test_damaged_checkpoints_are_not_trained_on(refusal_here, run_dir):
    paths = list((run_dir / "checkpoints" / "latest").iterdir())
    assert len(paths) > 1
    for path in paths:
        path.write_bytes(path.read_bytes()[:-200])
    before = content(run_dir)
    flagfile = f"--flagfile={run_dir / 'run.flags'}"
    message = refusal_here("train", flagfile, f"--run_dir={run_dir}")
    for path in paths:
        assert str(path) in message
    assert content(run_dir) == before


def test_evaluating_a_damaged_checkpoint(run_dir):
    path = newest(run_dir / "checkpoints" / "best")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    path.write_bytes(damaged)
    assert str(path) in refusal("evaluate", f"--run_dir={run_dir}")
    assert not (run_dir / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("evaluate", []),
        ("export", ["--output=model.keras"]),
        ("denoise", ["picture.png", "--output=out"]),
    ],
)
def test_what_is_no_run(script, arguments, without_tensorflow, tmp_path):
    (tmp_path / "images").mkdir()
    flag = f"--run_dir={tmp_path}"
    message = refusal(script, flag, *arguments, env=without_tensorflow)
    assert f"--run_dir={tmp_path} holds no run" in message
    assert os.listdir(tmp_path) == ["images"]


def test_exporting_a_run_without_a_checkpoint(refusal_here, run_dir, tmp_path):
    newest(run_dir / "checkpoints" / "best").unlink()
    output = tmp_path / "model.keras"
    message = refusal_here("export", f"--run_dir={run_dir}", f"--output={output}")
    assert f"--run_dir={run_dir}" in message and "best checkpoint" in message
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("output", "names"),
    [("model.h5", ["model.h5", ".keras"]), ("none/model.keras", ["folder", "none"])],
)
def test_exporting_to_a_bad_name(trained, without_tensorflow, tmp_path, output, names):
    output = tmp_path / output
    arguments = (f"--run_dir={trained}", f"--output={output}")
    message = refusal("export", *arguments, env=without_tensorflow)
    assert f"--output={output}" in message
    assert all(name in message for name in names)
    assert os.listdir(tmp_path) == []
