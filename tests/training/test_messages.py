import contextlib
import io
import json
import os
import shlex
from types import SimpleNamespace

import pytest

from aelab.config import Config
from aelab.models import build_model
from aelab.runs.directory import RunDirectory
from aelab.training.messages import (
    layer_table,
    machine_change,
    print_results,
    remove_passed_failure,
    version_change,
)

MACHINE = {
    "replicas": 2,
    "devices": ["CPU:0", "CPU:1"],
    "device_names": [],
    "xla": True,
    "cpu": "A",
    "cpu_model": "family 1, model 2",
    "instructions": ["avx2"],
    "threads": 2,
    "environment": {"NVIDIA_TF32_OVERRIDE": "0"},
}
VERSIONS = {"python": "3.11", "tensorflow": "2.21.0", "keras": "3.15.1"}


def test_the_same_machine_and_versions_are_not_mentioned():
    assert machine_change(MACHINE, dict(MACHINE)) == ""
    assert version_change(VERSIONS, dict(VERSIONS)) == ""
    assert version_change(VERSIONS, VERSIONS | {"python": "3.12"}) == ""


def test_a_run_that_recorded_nothing_is_not_compared():
    assert machine_change({}, MACHINE) == ""
    assert version_change({}, VERSIONS) == ""


def test_other_devices_are_reported():
    now = MACHINE | {"replicas": 1, "devices": ["CPU:0"], "xla": False}
    text = machine_change(MACHINE, now)
    assert "(devices CPU:0, CPU:1 -> CPU:0; replicas 2 -> 1; xla on -> off)" in text
    assert "match only up to rounding" in text


def test_another_processor_and_its_threads_are_reported():
    text = machine_change(MACHINE, MACHINE | {"cpu": "B", "threads": 1})
    assert "(cpu A -> B; threads 2 -> 1)" in text
    # Virtual machines may call several processors by the same name.
    other = {"cpu_model": "family 2, model 2", "instructions": ["avx2", "fma"]}
    text = machine_change(MACHINE, MACHINE | other)
    assert "(cpu_model family 1, model 2 -> family 2, model 2; instruct" in text
    assert "instructions avx2 -> avx2, fma)" in text
    gpu = MACHINE | {"device_names": ["G"]}
    assert machine_change(gpu, gpu | {"cpu": "B", "threads": 1} | other) == ""
    assert "(device_names G -> H)" in machine_change(gpu, gpu | {"device_names": ["H"]})


def test_variables_that_change_rounding_are_reported():
    now = MACHINE | {"environment": {"TF_ENABLE_ONEDNN_OPTS": "0"}}
    for words in ("NVIDIA_TF32_OVERRIDE 0 -> unset", "ENABLE_ONEDNN_OPTS unset -> 0"):
        assert words in machine_change(MACHINE, now)


def test_what_release_0_1_0_did_not_record_is_not_compared():
    old = {"replicas": 2, "devices": ["CPU:0", "CPU:1"], "xla": True}
    assert machine_change(old, MACHINE) == ""
    assert machine_change({"environment": 7}, MACHINE) == ""


def test_other_versions_are_reported():
    text = version_change(VERSIONS, VERSIONS | {"keras": "3.16.0"})
    assert "(keras 3.15.1 -> 3.16.0): from here on, results may differ" in text


def test_the_printed_command_can_be_pasted_into_a_shell(capsys, monkeypatch):
    run, python = "my runs (new)/it's $HOME & more", "/opt/my env/bin/python"
    monkeypatch.setattr("sys.executable", python)
    print_results(RunDirectory(run), 7)
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("Curves ")
    words = shlex.split(command)
    assert words[1:3] == ["-m", "tensorboard.main"]
    assert words[-1] == f"--logdir={run}/tensorboard"
    assert words[0].endswith("my env/bin/python")


def test_the_printed_command_names_its_python_with_a_folder(capsys, monkeypatch):
    monkeypatch.setattr("sys.executable", f"{os.getcwd()}/python")
    print_results(RunDirectory("run"), 7)
    assert f"Curves     {os.getcwd()}/python -m" in capsys.readouterr().out


def test_the_table_of_layers_needs_only_the_characters_of_standard_output():
    model = build_model(Config(model="unet"), (8, 8, 1)).model
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "latin-1")):
        table = layer_table(model)
    assert table.isascii() and "| images (InputLayer)" in table
    assert table.endswith("Non-trainable params: 0 (0.00 B)")


@pytest.mark.parametrize(
    ("content", "is_kept"),
    [
        ({"step": 9, "split": "train"}, True),
        ({"step": 8, "split": "train"}, False),
        ({"step": 8, "split": "eval"}, True),
        ({"step": 7, "split": "eval"}, False),
        (["foreign"], True),
    ],
)
def test_a_failure_is_kept_until_the_run_has_passed_its_step(
    tmp_path, content, is_kept
):
    """At step 8, with the last evaluation at step 7."""
    path = tmp_path / "not_finite.json"
    path.write_text(json.dumps(content))
    state = SimpleNamespace(step=8, progress=SimpleNamespace(evaluated_step=7))
    run = SimpleNamespace(directory=RunDirectory(str(tmp_path)), state=state)
    remove_passed_failure(run)
    assert path.exists() == is_kept
