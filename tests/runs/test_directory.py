import dataclasses
import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from aelab.cli import CommandLine
from aelab.config import Config
from aelab.errors import UsageError
from aelab.runs import directory as run_directory
from aelab.runs.directory import RunDirectory
from aelab.system.files import write_bytes

CONFIG = Config(model="dense", encoding_dim=3, seed=4)
DATA = {"train": "50 images, sha256 a", "eval": "21 images, sha256 b"}
DATA |= {"image_shape": [12, 16, 1]}
MACHINE = {"replicas": 1}


@pytest.fixture
def run(tmp_path):
    """A run directory with a run in it, which has begun."""
    run = RunDirectory(str(tmp_path / "new" / "run"))
    run.check(CONFIG, DATA)
    run.write(CONFIG, DATA, MACHINE)
    write_bytes(run.metrics_jsonl, b"{}\n")
    return run


def content(folder):
    """Every file below `folder`, by its name."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(function, *arguments):
    with pytest.raises(UsageError) as error:
        function(*arguments)
    return str(error.value)


def parse_flagfile(path):
    command_line = CommandLine("Trains.")
    command_line.add_text("run_dir", "Folder.", "DIR", required=True)
    command_line.add_config()
    values = command_line.parse(["train.py", f"--flagfile={path}"])
    return command_line.config(), values.run_dir


def test_a_run_is_written_and_read_back(run):
    files = ["config.json", "metrics.jsonl", "run.flags"]
    folders = ["checkpoints", "images", "tensorboard"]
    assert sorted(os.listdir(run.path)) == sorted(files + folders)
    assert run.read_config() == CONFIG
    assert run.read_image_shape() == (12, 16, 1)
    with open(run.config_json, encoding="utf-8") as file:
        written = json.load(file)
    assert dataclasses.asdict(CONFIG).items() <= written.items()
    assert written["format"] == 2
    assert run.read_versions() == written["versions"]
    assert set(written["versions"]) == {
        *("python", "tensorflow", "keras", "numpy", "aelab")
    }


def test_a_config_json_that_an_editor_saved_with_a_byte_order_mark(run):
    path = Path(run.config_json)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert run.read_config() == CONFIG


def test_a_run_without_versions_has_none(run):
    write_bytes(run.config_json, damaged())
    assert run.read_versions() == {}


def test_paths(tmp_path):
    run = RunDirectory(str(tmp_path))
    paths = {
        "config.json": run.config_json,
        "run.flags": run.run_flags,
        "metrics.jsonl": run.metrics_jsonl,
        "evaluation.json": run.evaluation_json,
        "images": run.images,
        "tensorboard": run.tensorboard,
        "checkpoints/latest": run.checkpoints("latest"),
        "checkpoints/best": run.checkpoints("best"),
    }
    assert paths == {name: str(tmp_path / name) for name in paths}


def test_a_folder_without_a_run_may_be_used(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    RunDirectory(str(tmp_path)).check(CONFIG, DATA)
    RunDirectory(str(tmp_path / "none")).check(CONFIG, DATA)
    assert os.listdir(tmp_path) == ["notes.txt"]
    assert not RunDirectory(str(tmp_path)).has_config()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epochs": 99},
        {"train_steps": 7},
        {"steps_per_loop": 3, "log_every_steps": 1, "eval_every_epochs": 2},
        {"early_stopping_patience": 5},
    ],
)
def test_a_run_resumes_with_changes_that_affect_no_number(run, changes):
    config = dataclasses.replace(CONFIG, **changes)
    run.check(config, DATA)
    run.write(config, DATA, MACHINE)
    assert run.read_config() == config


def test_data_may_be_moved(run, tmp_path):
    before, after = (
        dataclasses.replace(CONFIG, dataset="idx", data_dir=str(tmp_path / name))
        for name in ("before", "after")
    )
    run.write(before, DATA, MACHINE)
    run.check(after, DATA)


def test_a_run_of_another_configuration_is_not_changed(run, tmp_path):
    before = content(tmp_path)
    other = dataclasses.replace(CONFIG, noise_stddev=0.5, seed=5, epochs=99)
    message = refusal(run.check, other, DATA)
    assert f"--run_dir={run.path}" in message
    assert "--noise_stddev: 0.0 -> 0.5" in message and "--seed: 4 -> 5" in message
    assert "epochs" not in message
    assert content(tmp_path) == before


def test_a_run_that_failed_before_its_first_checkpoint_may_be_replaced(run):
    os.remove(run.metrics_jsonl)
    run.write(CONFIG, DATA, MACHINE)
    other, data = Config(model="conv"), DATA | {"train": "other"}
    run.check(other, data)
    run.write(other, data, MACHINE)
    assert run.read_config() == other
    Path(run.config_json).write_text('{"architectures": ["of other software"]}')
    assert run.config_json in refusal(run.check, other, data)


@pytest.mark.parametrize("name", DATA)
def test_a_run_on_other_data_is_refused(run, name):
    message = refusal(run.check, CONFIG, DATA | {name: "other"})
    assert f"--run_dir={run.path}" in message
    assert f"{name} data: {DATA[name]} -> other" in message


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "checkpoints", "tensorboard", "images"]
)
def test_results_without_a_configuration_are_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    message = refusal(RunDirectory(str(tmp_path)).check, CONFIG, DATA)
    assert f"--run_dir={tmp_path}" in message and str(tmp_path / name) in message
    assert "no config.json" in message


@pytest.mark.parametrize("name", ["", "run", "run/below"])
def test_a_folder_that_cannot_be_created_is_named(tmp_path, name):
    file = tmp_path / "file"
    file.write_text("mine")
    run = RunDirectory(str(file / name) if name else str(file))
    message = refusal(run.write, CONFIG, DATA, MACHINE)
    assert f"--run_dir={run.path} can't be written" in message
    assert content(tmp_path) == {file: b"mine"}


@pytest.mark.parametrize("name", ["config.json", "run.flags"])
def test_a_file_that_cannot_be_written_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    message = refusal(RunDirectory(str(tmp_path)).write, CONFIG, DATA, MACHINE)
    assert "can't be written" in message and str(tmp_path / name) in message


def test_a_failed_write_leaves_the_old_file(run, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_directory.os, "replace", fail)
    with pytest.raises(OSError, match=r"No space left.*\d+ bytes were wanted"):
        run.write(dataclasses.replace(CONFIG, epochs=99), DATA, MACHINE)
    monkeypatch.undo()
    assert run.read_config() == CONFIG
    with pytest.raises(OSError):
        write_bytes(os.path.join(run.path, "none", "a"), b"")


def damaged(**changes):
    return json.dumps(dataclasses.asdict(CONFIG) | {"data": DATA} | changes).encode()


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff\xfe{}", damaged()[:-20]]
)
def test_a_damaged_configuration_is_named(run, text):
    with open(run.config_json, "wb") as file:
        file.write(text)
    calls = [run.read_config, run.read_image_shape, lambda: run.check(CONFIG, DATA)]
    for call in calls:
        assert run.path in refusal(call)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"epochs": "3"}, "--epochs must be"),
        ({"optimizer": "sgdd"}, "--optimizer must be one of"),
    ],
)
def test_a_bad_field_is_named(run, changes, match):
    write_bytes(run.config_json, damaged(**changes))
    for call in (run.read_config, lambda: run.check(CONFIG, DATA)):
        message = refusal(call)
        assert run.config_json in message and match in message


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"image_shape": 12},
        {"image_shape": [12, 16]},
        {"image_shape": ["a", 16, 1]},
        {"image_shape": [None, 16, 1]},
        {"image_shape": [float("inf"), 16, 1]},
        {"image_shape": [-12, 16, 1]},
        {"image_shape": [0, 16, 1]},
    ],
)
def test_a_bad_image_shape_is_refused(run, data):
    write_bytes(run.config_json, damaged(data=data))
    assert run.config_json in refusal(run.read_image_shape)


def test_a_folder_without_a_run_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        run = RunDirectory(str(folder))
        for call in (run.read_config, run.read_image_shape):
            assert f"--run_dir={folder} holds no run" in refusal(call)


@pytest.mark.parametrize(
    "name",
    ["a b", "#a", "//a", "ä", "a'b\"c", "a\\n", "--seed=9", "a=b", "$HOME", "\udcff"],
)
def test_the_flagfile_describes_the_same_run(tmp_path, name):
    config = Config(
        dataset="idx",
        data_dir=str(tmp_path / name),
        learning_rate=1e-7,
        noise_stddev=0.1 + 0.2,
        seed=2**31 - 1,
    )
    run = RunDirectory(str(tmp_path / name))
    run.write(config, DATA, MACHINE)
    assert parse_flagfile(run.run_flags) == (config, run.path)


def test_the_flagfile_of_the_defaults(run):
    run.write(Config(), DATA, MACHINE)
    assert parse_flagfile(run.run_flags) == (Config(), run.path)


@pytest.mark.parametrize(
    "name", ["images", "checkpoints", "checkpoints/best", "tensorboard/train"]
)
def test_a_file_in_place_of_a_folder_is_named(run, name):
    folder = os.path.join(run.path, name)
    shutil.rmtree(folder)
    with open(folder, "w") as file:
        file.write("mine")
    with pytest.raises(UsageError, match=name):
        run.write(CONFIG, DATA, MACHINE)
    with open(folder) as file:
        assert file.read() == "mine"


def test_a_disk_that_fails_does_not_mean_that_there_is_no_run(tmp_path, failing_reads):
    run = RunDirectory(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    failing_reads(run.config_json, errno.EIO)
    with pytest.raises(OSError, match=re.escape(run.config_json)):
        run.read_config()
