import json
import os
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import LOGICAL_CPUS, run_script
from test_run import train

from aelab.config import FIELDS, Config
from aelab.distributed import devices as distribution_module
from aelab.distributed.devices import STRATEGIES, Distribution
from aelab.distributed.workers import shared_settings
from aelab.errors import UsageError
from aelab.models import MODELS
from aelab.runs.directory import RunDirectory
from aelab.system.startup import start_tensorflow

CPUS = [f"CPU:{n}" for n in range(LOGICAL_CPUS)]


def mirrored(**fields):
    return Distribution(Config(strategy="mirrored", **fields))


def test_registry_holds_what_config_offers():
    assert set(STRATEGIES) == set(FIELDS["strategy"].metadata["choices"])


def test_one_device():
    found = Distribution(Config())
    assert found.strategy is tf.distribute.get_strategy()
    assert found.describe() == {
        "workers": 1,
        "replicas": 1,
        "devices": ["CPU:0"],
        "device_names": [],
        "precision": "float32",
        "xla": False,
        "tf32": False,
    }
    assert found.line() == "1 x CPU, single, float32, XLA off"


def test_all_devices_unless_some_are_named():
    assert mirrored().describe()["devices"] == CPUS
    found = mirrored(devices="CPU:1,CPU:3", precision="mixed_bfloat16")
    assert found.describe()["devices"] == ["CPU:1", "CPU:3"]
    assert found.strategy.num_replicas_in_sync == 2
    assert found.line() == "2 x CPU, mirrored, mixed bfloat16, XLA off"


@pytest.mark.parametrize(
    "devices", ["GPU:0", "CPU:9", "CPU:0,CPU:0", "CPU:0,", "cpu:0", "CPU"]
)
def test_devices_that_are_not_there_are_refused_with_those_that_are(devices):
    with pytest.raises(UsageError, match=f"--devices={devices} .*{','.join(CPUS)}"):
        mirrored(devices=devices)


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(129, "128 or 132"), (6, "4 or 8"), (3, "4"), (1, "4")],
)
def test_a_batch_that_cannot_be_cut_evenly_is_refused(batch_size, sizes):
    message = f"--batch_size={batch_size} .* multiple of {LOGICAL_CPUS}, as {sizes}$"
    with pytest.raises(UsageError, match=message):
        mirrored(batch_size=batch_size)


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("precision", FIELDS["precision"].metadata["choices"])
def test_xla_where_asked_for_or_known_to_help(model, precision):
    def use_xla(choice):
        config = Config(model=model, precision=precision, jit_compile=choice)
        return Distribution(config).use_xla

    assert use_xla("true")
    assert not use_xla("false")
    known = (model, "CPU", precision) in distribution_module._XLA_HELPS
    assert use_xla("auto") == known


def test_what_one_worker_tells_itself():
    found = Distribution(Config())
    assert found.is_chief
    assert found.max_over_workers(15) == 15
    arrays = {"a": np.array([1.5, np.nan]), "b": np.array(3)}
    same = found.broadcast_from_chief(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(same[name], array)
    found.check_same_settings(shared_settings(Config(), {"train": "x"}))


PROGRAM = """
import sys, numpy as np
from aelab.system.startup import start_tensorflow
start_tensorflow(find_devices=False)
from aelab.distributed.cluster import find_cluster
from aelab.config import Config
from aelab.distributed.devices import Distribution
d = Distribution(Config(strategy="multi_worker"), find_cluster())
assert d.max_over_workers(7 * d.worker) == 7
sign = -1.0 if d.is_chief else 1.0
mine = {
    "a": np.array([[-0.0, np.inf, 1e-45]], np.float32) * np.float32(sign),
    "b": np.array(2**62 + d.worker), "c": np.zeros([0, 2]), "d": np.array([True]),
}
found = d.broadcast_from_chief(mine)
chief = {**mine, "a": np.array([[0.0, -np.inf, -1e-45]], np.float32)}
chief["b"] = np.array(2**62)
for name, array in chief.items():
    assert found[name].tobytes() == array.tobytes(), name
    assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
try:
    d.check_same_settings({"--x": 1, "--y": d.worker, "z data": "s"})
except ValueError as error:
    print(error)
d.check_same_settings({"--x": 1})
d.max_over_workers(0)
"""


def test_what_two_workers_tell_each_other():
    from test_multi_worker import free_ports, outcomes, start_worker

    ports, command = free_ports(2), [sys.executable, "-c", PROGRAM]
    for code, output, errors in outcomes(
        [start_worker(i, ports, command) for i in (0, 1)]
    ):
        assert code == 0, errors
        assert output.splitlines()[-1] == (
            "the workers were not started alike; they differ in --y"
        )


def test_virtual_cpus_from_the_command_line(tmp_path):
    """And where they stand afterwards."""
    flags = ["--model=dense", "--train_examples=200", "--eval_examples=50"]
    flags += ["--epochs=1", "--strategy=mirrored", "--virtual_cpus=2"]
    found = run_script("train", f"--run_dir={tmp_path}/run", *flags)
    assert (found.returncode, found.stderr) == (0, "")
    assert "Devices    2 x CPU, mirrored, float32, XLA off" in found.stdout
    machine = json.loads((tmp_path / "run/config.json").read_text())["machine"]
    assert machine["devices"] == ["CPU:0", "CPU:1"]
    assert machine["replicas"] == 2


def test_a_run_goes_on_with_other_devices(tmp_path, capsys):
    """To rounding, and says so."""
    train(tmp_path / "whole", epochs=2)
    two = {"strategy": "mirrored", "devices": "CPU:0,CPU:1"}
    train(tmp_path / "run", epochs=1, **two)
    capsys.readouterr()
    train(tmp_path / "run", epochs=2)
    assert (
        "on other devices than before (2 replicas on CPU:0, CPU:1 then"
        in capsys.readouterr().out
    )
    lines = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])
        for name in ("run", "whole")
    ]
    assert lines[0]["step"] == lines[1]["step"]
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-5)


def test_what_xla_cannot_compile_is_an_error_before_the_first_step(
    tmp_path, monkeypatch
):
    build = MODELS["dense"]

    def build_odd(config, image_shape):
        model = build(config, image_shape)
        encoder = model.encoder

        def odd_encoder(images, training):
            code = encoder(images, training=training)
            same = tf.numpy_function(lambda x: x, [code], tf.float32)
            return code + 0 * tf.reshape(same, tf.shape(code))

        model.encoder = odd_encoder
        return model

    monkeypatch.setitem(MODELS, "dense", build_odd)
    with pytest.raises(UsageError, match="--jit_compile=true: XLA can't compile"):
        train(tmp_path / "run", jit_compile="true")
    run = RunDirectory(str(tmp_path / "run"))
    assert os.listdir(run.latest) == ["step-00000000.npz"]


def test_gpus_grow_and_are_left_alone_with_virtual_cpus(monkeypatch):
    """The calls alone: there is no GPU here."""
    calls = []
    config = tf.config
    monkeypatch.setattr(config, "get_visible_devices", lambda kind: [f"{kind} 7"])
    monkeypatch.setattr(config, "set_visible_devices", lambda *a: calls.append(a))
    monkeypatch.setattr(
        config.experimental, "set_memory_growth", lambda *a: calls.append(a)
    )
    monkeypatch.setattr(
        config, "set_logical_device_configuration", lambda d, c: calls.append(len(c))
    )
    start_tensorflow()
    assert calls == [("GPU 7", True)]
    calls.clear()
    start_tensorflow(3)
    assert calls == [([], "GPU"), 3, ("GPU 7", True)]


def test_what_is_said_of_gpus(monkeypatch):
    found = Distribution(Config())
    details = {"device_name": "Some GPU", "compute_capability": (9, 0)}
    monkeypatch.setattr(Distribution, "_devices", ["GPU:0"])
    monkeypatch.setattr(distribution_module, "_gpu_details", lambda name: details)
    assert found.line() == "1 x GPU (Some GPU), single, float32, TF32 on, XLA off"
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert not found.describe()["tf32"]
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    details["compute_capability"] = (7, 5)
    assert found.describe()["device_names"] == ["Some GPU"]
    assert "TF32 off" in found.line()
