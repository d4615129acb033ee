"""The data that a real TensorBoard serves of a run over its HTTP API."""

import io
import urllib.parse

import numpy as np
import pytest
import tensorflow as tf
from board import experiment, get_json, getter, session_groups
from conftest import metric_lines, tensorboard
from PIL import Image

from aelab.data.synthetic import draw_images
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory

EVALUATIONS = 12
EVAL_SEED = 2  # of the synthetic data


@pytest.fixture(scope="module")
def run_dir(runs):
    return runs / "denoiser"


@pytest.fixture(scope="module")
def get(run_dir):
    """`get(path)` of a TensorBoard that shows one run."""
    with tensorboard(run_dir / "tensorboard") as address:
        yield getter(address)


@pytest.fixture(scope="module")
def get_of_all(tensorboard_of_runs):
    """`get(path)` of a TensorBoard that shows the folder of both runs."""
    return getter(tensorboard_of_runs)


def test_runs_and_scalars(get):
    assert sorted(get_json(get, "runs")) == ["eval", "train"]
    tags = get_json(get, "plugin/scalars/tags")
    assert set(tags["train"]) == {
        *("loss", "psnr", "learning_rate", "gradient_norm", "images_per_second"),
        "input_wait",
    }
    assert set(tags["eval"]) == {"loss", "bce", "mse", "psnr", "ssim"}


@pytest.mark.parametrize("plugin", ["scalars", "histograms", "images"])
def test_every_chart_is_described(get_of_all, plugin):
    tags = get_json(get_of_all, f"plugin/{plugin}/tags")
    assert tags
    for run in tags.values():
        for tag, info in run.items():
            assert info["description"], tag


@pytest.mark.parametrize(("split", "tag"), [("train", "loss"), ("eval", "psnr")])
def test_scalars_equal_metrics_jsonl(get, run_dir, split, tag):
    served = get_json(get, "plugin/scalars/scalars", run=split, tag=tag)
    expected = [(line["step"], line[tag]) for line in metric_lines(run_dir, split)]
    assert [step for _, step, _ in served] == [step for step, _ in expected]
    for (_, _, value), (_, wanted) in zip(served, expected, strict=True):
        assert value == pytest.approx(wanted, rel=1e-6)


def test_each_evaluation_has_its_png_as_a_panel(get, run_dir):
    assert list(get_json(get, "plugin/images/tags")) == ["eval"]
    served = get_json(get, "plugin/images/images", run="eval", tag="panel", sample=0)
    steps = [line["step"] for line in metric_lines(run_dir, "eval")]
    assert [image["step"] for image in served] == steps
    assert len(served) == EVALUATIONS
    for image in served:
        blob = get(f"/data/plugin/images/individualImage?{image['query']}")
        file = run_dir / "images" / f"panel-{image['step']:08d}.png"
        picture, expected = (tf.io.decode_png(b) for b in (blob, file.read_bytes()))
        tf.debugging.assert_equal(picture, expected)
        assert picture.shape == (268, 1060, 1)


@pytest.mark.parametrize(
    ("run", "variables"),
    [
        ("code", {"code", "pixels"}),
        ("denoiser", {"conv1", "conv2", "conv3", "conv4", "pixels"}),
    ],
)
def test_each_variable_and_the_code_have_histograms(get_of_all, runs, run, variables):
    tags = get_json(get_of_all, "plugin/histograms/tags")[f"{run}/tensorboard/eval"]
    wanted = {f"{layer}/{name}" for layer in variables for name in ("kernel", "bias")}
    assert {"/".join(t.split("/")[-2:]) for t in tags if t != "code"} == wanted
    assert all(tag == "code" or tag.startswith("weights/") for tag in tags)
    steps = [line["step"] for line in metric_lines(runs / run, "eval")]
    for tag in tags:
        served = get_json(
            get_of_all,
            "plugin/histograms/histograms",
            run=f"{run}/tensorboard/eval",
            tag=tag,
        )
        assert [step for _, step, _ in served] == steps


def test_a_histogram_agrees_with_the_saved_weights(get_of_all, runs):
    """At the last evaluation, which is the step of the last checkpoint."""
    newest = checkpoints.newest(RunDirectory(str(runs / "denoiser")).latest)
    for name, values in checkpoints.load(newest).items():
        if not name.startswith("model/"):
            continue
        _, _, buckets = get_json(
            get_of_all,
            "plugin/histograms/histograms",
            run="denoiser/tensorboard/eval",
            tag=name.replace("model/", "weights/", 1),
        )[-1]
        left, right, counts = np.transpose(buckets)
        values = values.astype(np.float64)
        assert (left[0], right[-1]) == pytest.approx((values.min(), values.max()))
        np.testing.assert_allclose(left[1:], right[:-1])
        for edge, count in zip(right, np.cumsum(counts), strict=True):
            # A value on an edge may count on either side.
            slack = 1e-9 * np.ptp(values)
            assert (values < edge - slack).sum() <= count
            assert count <= (values <= edge + slack).sum()


def test_the_configuration_is_a_text(get):
    tags = get_json(get, "plugin/text/tags")
    assert "config" in tags["train"]
    (text,) = get_json(get, "plugin/text/text", run="train", tag="config")
    for name, value in [("noise_stddev", "0.5"), ("model", "conv")]:
        assert f"<td>{name}</td>\n<td>{value}</td>" in text["text"]


def test_the_model_is_a_graph(get):
    info = get_json(get, "plugin/graphs/info")
    assert info["train"]["run_graph"]
    graph = get("/data/plugin/graphs/graph?run=train&conceptual=false").decode()
    for name in ("encoder", "conv1", "decoder", "pixels"):
        assert name in graph


def test_the_table_of_runs_has_a_row_per_run_with_its_last_metrics(get_of_all, runs):
    rows = session_groups(get_of_all)
    assert [row["name"] for row in rows] == [
        "code/tensorboard/eval",
        "denoiser/tensorboard/eval",
    ]
    for row, name in zip(rows, ("code", "denoiser"), strict=True):
        last = metric_lines(runs / name, "eval")[-1]
        assert row["metrics"] == {
            ("", tag): pytest.approx(last[tag], rel=1e-6)
            for tag in ("bce", "loss", "mse", "psnr", "ssim")
        }
        config = RunDirectory(str(runs / name)).read_config()
        assert row["hparams"]["model"] == config.model
        assert row["hparams"]["noise_stddev"] == config.noise_stddev


def test_the_table_of_runs_begins_with_the_fields_that_differ(get_of_all):
    found = experiment(get_of_all)
    differing = [i["name"] for i in found["hparamInfos"] if i.get("differs")]
    assert differing == [
        *("encoding_dim", "epochs", "eval_examples", "model", "noise_stddev")
    ]
    assert [info["name"] for info in found["hparamInfos"]][:5] == differing
    # TensorBoard shows five by default.
    tags = [info["name"]["tag"] for info in found["metricInfos"]]
    assert tags == ["bce", "loss", "mse", "psnr", "ssim"]


def test_the_table_of_one_run_has_one_row(get, run_dir):
    (row,) = session_groups(get)
    assert row["name"] == "eval"
    last = metric_lines(run_dir, "eval")[-1]
    assert row["metrics"]["", "psnr"] == pytest.approx(last["psnr"], rel=1e-6)


def test_the_projector_has_code_label_and_thumbnail_of_each_image(get_of_all, runs):
    """The code agrees with NumPy and the saved weights."""
    run = "code/tensorboard/eval"
    path = "plugin/projector"
    assert run in get_json(get_of_all, f"{path}/runs")
    (embedding,) = get_json(get_of_all, f"{path}/info", run=run)["embeddings"]
    assert embedding["tensorShape"] == [110, 7]
    query = urllib.parse.urlencode({"run": run, "name": embedding["tensorName"]})
    raw = get_of_all(f"/data/{path}/tensor?{query}")
    codes = np.frombuffer(raw, np.float32).reshape(110, 7)

    newest = checkpoints.newest(RunDirectory(str(runs / "code")).latest)
    arrays = checkpoints.load(newest)
    (kernel,) = (a for n, a in arrays.items() if n.endswith("code/kernel"))
    (bias,) = (a for n, a in arrays.items() if n.endswith("code/bias"))
    images, labels = draw_images(110, EVAL_SEED)
    expected = np.maximum(images.reshape(110, -1) / 255.0 @ kernel + bias, 0.0)
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-4)

    table = get_of_all(f"/data/{path}/metadata?{query}").decode().splitlines()
    assert table == ["label\timage", *(f"{n}\t{i}" for i, n in enumerate(labels))]
    sprite = get_of_all(f"/data/{path}/sprite_image?{query}")
    picture = np.asarray(Image.open(io.BytesIO(sprite)))
    assert embedding["sprite"]["singleImageDim"] == [28, 28]
    assert picture.shape == (11 * 28, 11 * 28)
    for number in (0, 10, 11, 109):
        top, left = 28 * (number // 11), 28 * (number % 11)
        tile = picture[top : top + 28, left : left + 28]
        np.testing.assert_array_equal(tile, images[number, ..., 0])


def test_the_projector_leaves_out_long_codes(get_of_all):
    runs = get_json(get_of_all, "plugin/projector/runs")
    assert runs == ["code/tensorboard/eval"]
