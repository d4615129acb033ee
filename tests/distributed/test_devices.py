import functools
import json
import os

import pytest
import tensorflow as tf
from conftest import LOGICAL_CPUS, metric_lines, run_forked

from aelab.config import FIELDS, Config
from aelab.config.registry import MODELS
from aelab.distributed import devices
from aelab.distributed.devices import STRATEGIES, Distribution
from aelab.errors import UsageError
from aelab.models.dense import build_dense
from aelab.runs.directory import RunDirectory
from aelab.system.machine import (
    cpu_instructions,
    cpu_model,
    cpu_name,
    rounding_variables,
)
from aelab.system.startup import start_tensorflow
from aelab.training.run import train_and_evaluate

CPUS = [f"CPU:{n}" for n in range(LOGICAL_CPUS)]


def train(run_dir, **fields):
    fields = {"batch_size": 16, "train_examples": 64, "eval_examples": 30} | fields
    config = Config(model="dense", encoding_dim=8, noise_stddev=0.2, **fields)
    return train_and_evaluate(config, str(run_dir))


def mirrored(**fields):
    return Distribution(Config(strategy="mirrored", **fields))


def test_the_registry_has_the_choices_of_the_flag():
    assert set(STRATEGIES) == set(FIELDS["strategy"].metadata["choices"])


def test_one_device():
    distribution = Distribution(Config())
    assert distribution.strategy is tf.distribute.get_strategy()
    assert distribution.describe() == {
        "workers": 1,
        "replicas": 1,
        "devices": ["CPU:0"],
        "device_names": [],
        "cpu": cpu_name(),
        "cpu_model": cpu_model(),
        "instructions": cpu_instructions(),
        "threads": len(os.sched_getaffinity(0)),
        "environment": rounding_variables(),
        "precision": "float32",
        "xla": False,
        "tf32": False,
    }
    assert distribution.line() == "1 x CPU, single, float32, XLA off"


def test_all_devices_are_used_unless_some_are_named():
    assert mirrored().describe()["devices"] == CPUS
    two = mirrored(devices="CPU:1,CPU:3", precision="mixed_bfloat16")
    assert two.describe()["devices"] == ["CPU:1", "CPU:3"]
    assert two.strategy.num_replicas_in_sync == 2
    assert two.line() == "2 x CPU, mirrored, mixed bfloat16, XLA off"


@pytest.mark.parametrize(
    "names", ["GPU:0", "CPU:9", "CPU:0,CPU:0", "CPU:0,", "cpu:0", "CPU"]
)
def test_unknown_devices_are_refused_and_the_known_ones_listed(names):
    with pytest.raises(UsageError, match=f"--devices={names} .*{','.join(CPUS)}"):
        mirrored(devices=names)


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(129, "128 or 132"), (6, "4 or 8"), (3, "4"), (1, "4")],
)
def test_a_batch_that_cannot_be_cut_evenly_is_refused(batch_size, sizes):
    message = (
        f"--batch_size={batch_size} .* multiple of {LOGICAL_CPUS}, for example {sizes}$"
    )
    with pytest.raises(UsageError, match=message):
        mirrored(batch_size=batch_size)


@pytest.mark.parametrize("precision", FIELDS["precision"].metadata["choices"])
@pytest.mark.parametrize("model", [*sorted(MODELS), "my.module:build"])
def test_xla_is_used_if_requested_or_known_to_help(model, precision):
    def use_xla(choice):
        config = Config(model=model, precision=precision, jit_compile=choice)
        return Distribution(config).use_xla

    assert use_xla("true")
    assert not use_xla("false")
    helps = precision == "mixed_float16" and model in ("dense", "conv", "unet")
    assert use_xla("auto") == helps


def test_virtual_cpus_from_the_command_line(tmp_path):
    """In a process of its own, because TensorFlow divides the CPU only once."""
    flags = ["--model=dense", "--train_examples=200", "--eval_examples=50"]
    flags += ["--train_steps=2", "--strategy=mirrored", "--virtual_cpus=2"]
    result = run_forked("train", f"--run_dir={tmp_path}/run", *flags)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Devices    2 x CPU, mirrored, float32, XLA off" in result.stdout
    machine = json.loads((tmp_path / "run/config.json").read_text())["machine"]
    assert machine["devices"] == ["CPU:0", "CPU:1"]
    assert machine["replicas"] == 2


def test_a_run_resumes_on_other_devices(tmp_path, capsys):
    """It is equal up to rounding, and prints that."""
    train(tmp_path / "whole", epochs=2)
    two = {"strategy": "mirrored", "devices": "CPU:0,CPU:1"}
    train(tmp_path / "run", epochs=1, **two)
    capsys.readouterr()
    train(tmp_path / "run", epochs=2)
    changes = "(devices CPU:0, CPU:1 -> CPU:0; replicas 2 -> 1)"
    assert f"on another machine than before {changes}" in capsys.readouterr().out
    lines = [metric_lines(tmp_path / name)[-1] for name in ("run", "whole")]
    assert lines[0]["step"] == lines[1]["step"]
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-5)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_run_resumes_with_another_number_of_threads(tmp_path):
    flags = ["--model=dense", "--train_examples=200", "--eval_examples=50"]
    flags += ["--batch_size=64", f"--run_dir={tmp_path}/run"]
    first = run_forked("train", *flags, "--epochs=1")
    assert first.returncode == 0, first.stderr
    cores = os.sched_getaffinity(0)
    use_one_core = functools.partial(os.sched_setaffinity, 0, {min(cores)})
    second = run_forked("train", *flags, "--epochs=2", prepare=use_one_core)
    assert second.returncode == 0, second.stderr
    change = f"(threads {len(cores)} -> 1)"
    assert f"{change}: from here on, results match only up to" in second.stdout


def build_with_numpy(config, image_shape):
    """A model that XLA can't compile."""
    dense = build_dense(config, image_shape)

    def with_numpy(code, dither):
        same = tf.numpy_function(lambda x: x, [code], tf.float32)
        return code + 0 * tf.reshape(same, tf.shape(code))

    return dense._replace(bottleneck=with_numpy)


def test_a_model_that_xla_cannot_compile_is_refused_before_training(
    tmp_path, monkeypatch
):
    target = f"{__name__}:build_with_numpy"
    monkeypatch.setitem(MODELS, "dense", target)
    with pytest.raises(UsageError, match="--jit_compile=true: XLA can't compile"):
        train(tmp_path / "run", jit_compile="true")
    run = RunDirectory(str(tmp_path / "run"))
    assert os.listdir(run.latest) == ["step-00000000.npz"]


def test_gpus_use_memory_growth_and_virtual_cpus_hide_them(monkeypatch):
    """Checks only the calls, which needs no GPU."""
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


def test_the_description_of_gpus(monkeypatch):
    distribution = Distribution(Config())
    details = {"device_name": "A GPU", "compute_capability": (9, 0)}
    monkeypatch.setattr(Distribution, "_devices", ["GPU:0"])
    monkeypatch.setattr(devices, "_gpu_details", lambda name: details)
    assert distribution.line() == "1 x GPU (A GPU), single, float32, TF32 on, XLA off"
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert not distribution.describe()["tf32"]
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    details["compute_capability"] = (7, 5)
    assert distribution.describe()["device_names"] == ["A GPU"]
    assert "TF32 off" in distribution.line()
