"""What a real TensorBoard serves of a run, asked through its HTTP API."""

import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest
import tensorflow as tf

from aelab import checkpoints
from aelab.config import Config
from aelab.loop import train_and_evaluate
from aelab.run_directory import RunDirectory

EVALUATIONS = 12


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run that did its last two epochs twice, as it was stopped before the end."""
    path = tmp_path_factory.mktemp("tensorboard") / "run"
    config = Config(
        model="conv",
        noise_stddev=0.5,
        batch_size=20,
        train_examples=40,
        eval_examples=20,
        epochs=EVALUATIONS,
        log_every_steps=1,
    )
    train_and_evaluate(config, str(path))
    # As if it had been killed after its third save from the end.
    for file in checkpoints.all_of(RunDirectory(str(path)).latest)[:2]:
        os.remove(file)
    train_and_evaluate(config, str(path))
    return path


@pytest.fixture(scope="module")
def get(run_dir):
    """Starts TensorBoard and returns `get(path) -> bytes`."""
    command = [sys.executable, "-m", "tensorboard.main", "--host=localhost", "--port=0"]
    command += [
        f"--logdir={run_dir / 'tensorboard'}",
        "--samples_per_plugin=images=100",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:
                if match := re.search(r"http://localhost:\d+", line):
                    break
            else:
                pytest.fail("TensorBoard did not start")
            yield lambda path: urllib.request.urlopen(
                match[0] + path, timeout=60
            ).read()
        finally:
            process.kill()


def get_json(get, path):
    return json.loads(get(f"/data/{path}"))


def lines(run_dir, split):
    text = (run_dir / "metrics.jsonl").read_text()
    return [n for n in map(json.loads, text.splitlines()) if n["split"] == split]


def test_runs_and_scalars(get, run_dir):
    assert sorted(get_json(get, "runs")) == ["eval", "train"]
    tags = get_json(get, "plugin/scalars/tags")
    assert set(tags["train"]) == {
        *("loss", "psnr", "learning_rate", "gradient_norm", "images_per_second"),
    }
    assert set(tags["eval"]) == {"loss", "bce", "mse", "psnr", "ssim"}
    for split in tags:
        for info in tags[split].values():
            assert info["description"]


@pytest.mark.parametrize(("split", "tag"), [("train", "loss"), ("eval", "psnr")])
def test_scalars_are_those_of_metrics_jsonl(get, run_dir, split, tag):
    served = get_json(get, f"plugin/scalars/scalars?run={split}&tag={tag}")
    expected = [(line["step"], line[tag]) for line in lines(run_dir, split)]
    assert [step for _, step, _ in served] == [step for step, _ in expected]
    for (_, _, value), (_, wanted) in zip(served, expected, strict=True):
        assert value == pytest.approx(wanted, rel=1e-6)


def test_one_panel_an_evaluation_and_it_is_the_png(get, run_dir):
    assert list(get_json(get, "plugin/images/tags")) == ["eval"]
    served = get_json(get, "plugin/images/images?run=eval&tag=panel&sample=0")
    assert [s["step"] for s in served] == [n["step"] for n in lines(run_dir, "eval")]
    assert len(served) == EVALUATIONS
    for image in served:
        blob = get(f"/data/plugin/images/individualImage?{image['query']}")
        file = run_dir / "images" / f"panel-{image['step']:08d}.png"
        picture, expected = (tf.io.decode_png(b) for b in (blob, file.read_bytes()))
        tf.debugging.assert_equal(picture, expected)
        assert picture.shape == (268, 1060, 1)


def test_configuration_is_a_text(get):
    tags = get_json(get, "plugin/text/tags")
    assert "config" in tags["train"]
    (text,) = get_json(get, "plugin/text/text?run=train&tag=config")
    for name, value in [("noise_stddev", "0.5"), ("model", "conv")]:
        assert f"<td>{name}</td>\n<td>{value}</td>" in text["text"]


def test_the_model_is_a_graph(get):
    info = get_json(get, "plugin/graphs/info")
    assert info["train"]["run_graph"]
    graph = get("/data/plugin/graphs/graph?run=train&conceptual=false").decode()
    for name in ("encoder", "conv1", "decoder", "pixels"):
        assert name in graph


def test_hyperparameters_are_listed(get):
    request = urllib.parse.quote(json.dumps({"experimentName": ""}))
    found = get(f"/data/plugin/hparams/experiment?request={request}")
    names = {info["name"] for info in json.loads(found)["hparamInfos"]}
    assert {"model", "learning_rate", "noise_stddev"} <= names
