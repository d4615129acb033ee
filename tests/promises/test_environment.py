"""Settings that other projects left behind change nothing."""

import functools
import json

import pytest
from conftest import run_forked, run_script

RUN = ["--model=dense", "--train_examples=200", "--eval_examples=50", "--train_steps=6"]
RUN += ["--noise_stddev=0.3", "--strategy=mirrored", "--virtual_cpus=2"]
TIMES = {"images_per_second", "input_wait"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The metrics and the evaluation of a run, without and with such settings."""
    home = tmp_path_factory.mktemp("keras")
    settings = {"floatx": "float16", "epsilon": 1e-2, "backend": "jax"}
    settings |= {"image_data_format": "channels_first", "nnx_enabled": True}
    (home / "keras.json").write_text(json.dumps(settings))
    cluster = {"worker": ["a:1", "b:1"]}
    task = {"type": "worker", "index": 1}
    leftovers = {
        "KERAS_HOME": str(home),
        "KERAS_BACKEND": "torch",
        "KERAS_NNX_ENABLED": "true",
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CONFIG": json.dumps({"cluster": cluster, "task": task}),
        **{"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "n[1-2]"},
        **{"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"},
    }
    return [
        _results(tmp_path_factory.mktemp("run"), environment)
        for environment in ({}, leftovers)
    ]


def _results(folder, environment):
    for arguments in (("train", *RUN), ("evaluate", "--checkpoint=latest")):
        name, *flags = arguments
        start = functools.partial(run_script, env=environment)
        done = (start if environment else run_forked)(
            name, *flags, f"--run_dir={folder}"
        )
        assert (done.returncode, done.stderr) == (0, "")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    metrics = [
        {name: value for name, value in json.loads(line).items() if name not in TIMES}
        for line in lines
    ]
    return metrics, json.loads((folder / "evaluation.json").read_text())


def test_they_change_no_metric_of_a_run(results):
    (expected, _), (metrics, _) = results
    assert metrics == expected


def test_they_change_no_number_of_an_evaluation(results):
    (_, expected), (_, evaluation) = results
    assert evaluation == expected
