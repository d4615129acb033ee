import json
import os
import re

import numpy as np
import pytest
import train  # scripts/train.py
from conftest import write_idx

from aelab.config import FIELDS, Config
from aelab.distributed.blocks import threads_per_op
from aelab.errors import UsageError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory


@pytest.fixture
def started(monkeypatch):
    """The arguments of each call to `start_tensorflow`, which is not executed."""
    calls = []
    monkeypatch.setattr(
        "aelab.system.startup.start_tensorflow",
        lambda *arguments: calls.append(arguments),
    )
    return calls


@pytest.fixture
def trained_config(started, monkeypatch):
    """Parses a command line, and returns the configuration that would be trained."""

    def parse(*flags):
        configs = []
        monkeypatch.setattr(
            "aelab.training.run.train_and_evaluate",
            lambda config, run_dir: configs.append(config),
        )
        train.main(["train.py", *flags])
        return configs[0]

    return parse


def write_run(folder, config, metrics="{}\n"):
    RunDirectory(str(folder)).write(config, {}, {})
    (folder / "metrics.jsonl").write_text(metrics)
    return f"--run_dir={folder}"


def test_a_stopped_run_is_resumed_with_only_its_folder(started, tmp_path):
    """It ends with the same numbers, bit for bit."""
    fields = ("model=dense", "encoding_dim=5", "seed=3", "learning_rate=0.01")
    fields += ("train_examples=40", "eval_examples=9", "batch_size=8")
    fields += ("train_steps=4", "checkpoint_every_steps=2")
    run_dir = f"--run_dir={tmp_path / 'run'}"
    train.main(["train.py", run_dir, *(f"--{field}" for field in fields)])
    run = RunDirectory(str(tmp_path / "run"))
    config = run.read_config()
    assert (config.encoding_dim, config.seed) == (5, 3)
    path, expected = checkpoints.load_newest(run.latest)
    os.remove(path)
    assert checkpoints.newest(run.latest) == checkpoints.path_of(run.latest, 2)
    train.main(["train.py", run_dir])
    assert run.read_config() == config
    arrays = checkpoints.load(path)
    for name in expected:
        if name.startswith(("model/", "optimizer/", "step")):
            np.testing.assert_array_equal(arrays[name], expected[name])


def test_a_new_run_has_the_defaults(trained_config, tmp_path):
    assert trained_config(f"--run_dir={tmp_path / 'run'}") == Config()


def test_another_default_does_not_change_a_run(trained_config, tmp_path, monkeypatch):
    run_dir = write_run(tmp_path / "run", Config(model="dense"))
    monkeypatch.setattr(FIELDS["seed"], "default", 99)
    monkeypatch.setattr(FIELDS["noise_stddev"], "default", 0.5)
    assert trained_config(run_dir) == Config(model="dense")


def test_given_flags_override_the_run(trained_config, tmp_path):
    run_dir = write_run(tmp_path / "run", Config(seed=3, epochs=7, batch_size=4))
    (tmp_path / "a.flags").write_text("--batch_size=128\n")
    config = trained_config(f"--flagfile={tmp_path / 'a.flags'}", run_dir, "--epochs=9")
    assert config == Config(seed=3, epochs=9)


def test_flags_replace_those_of_a_run_that_never_began(trained_config, tmp_path):
    run_dir = write_run(tmp_path / "run", Config(seed=3, turn=True), metrics="")
    assert trained_config(run_dir, "--seed=4") == Config(seed=4)
    assert trained_config(run_dir) == Config(seed=3, turn=True)


@pytest.mark.parametrize(
    "flag, size, message",
    [
        ("--turn", (16, 8), "--turn=true needs square images, not 8 x 16"),
        ("--supervision=noise2void", (3, 9), "at least 4 x 4 pixels, not 9 x 3"),
    ],
)
def test_images_that_do_not_fit_are_refused_before_a_directory_is_made(
    started, tmp_path, flag, size, message
):
    for name in ("train", "t10k"):
        images = np.zeros((9, *size), np.uint8)
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", images)
    flags = ["--dataset=idx", f"--data_dir={tmp_path}", "--corruption=none"]
    flags += ["--loss=mse", "--model=dense", f"--run_dir={tmp_path / 'run'}", flag]
    with pytest.raises(UsageError, match=re.escape(message)):
        train.main(["train.py", *flags])
    assert not (tmp_path / "run").exists()


def test_the_run_sets_threads_and_virtual_cpus(trained_config, started, tmp_path):
    config = Config(strategy="mirrored", virtual_cpus=2, batch_size=512)
    trained_config(write_run(tmp_path / "run", config))
    assert started == [(2, True, threads_per_op(config))]


def test_workers_find_their_devices_later(trained_config, started, tmp_path):
    trained_config(write_run(tmp_path / "run", Config(strategy="multi_worker")))
    assert started == [(0, False, 0)]


def test_a_damaged_configuration_is_named_before_tensorflow_starts(started, tmp_path):
    run_dir = write_run(tmp_path / "run", Config())
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epochs": "many"}))
    with pytest.raises(UsageError, match=r"config\.json: --epochs must be"):
        train.main(["train.py", run_dir])
    assert started == []
