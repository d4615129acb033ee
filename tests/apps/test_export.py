import errno
import os
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from registries import SIZE_MULTIPLES

from aelab.apps.export import export
from aelab.config import FIELDS, Config
from aelab.errors import UsageError
from aelab.models import build_model
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained

MODELS = sorted(FIELDS["model"].metadata["choices"])
SHAPE = (32, 32, 1)
SUFFIXES = {"keras": ".keras", "saved_model": ""}
STEPS = {"best": 3, "latest": 6}

# Opens all exported models in a process that can't import aelab: first the SavedModels,
# while Keras can't be imported either, and then the files for Keras, which loads no
# custom code. Writes the outputs for the images in NAME.npz to NAME.out.npz.
_OPEN = """
import sys
sys.modules["aelab"] = sys.modules["keras"] = None
import numpy as np, tensorflow as tf

def write_outputs(name, function):
    inputs = np.load(f"{name}.npz")
    outputs = {key: function(images) for key, images in inputs.items()}
    np.savez(f"{name}.out.npz", **outputs)

def serve(model):
    signature = tf.saved_model.load(model).signatures["serving_default"]
    return lambda images: signature(images=tf.constant(images))["output"]

for model in sys.argv[1:]:
    write_outputs(f"{model}-saved_model", serve(f"{model}-saved_model"))
del sys.modules["keras"]
import keras

for model in sys.argv[1:]:
    loaded = keras.models.load_model(f"{model}-keras.keras", safe_mode=True)
    write_outputs(f"{model}-keras", lambda images: loaded.predict(images, verbose=0))
"""


def write_run(path, model, shape=SHAPE, **values):
    """Writes a run of a model with two checkpoints of random weights."""
    run = RunDirectory(str(path))
    config = Config(model=model, **values)
    run.write(config, {"image_shape": list(shape)}, {})
    variables = build_model(config, shape).variables
    generator = np.random.default_rng(0)
    for checkpoint, step in STEPS.items():
        arrays = {
            f"model/{variable.path}": (
                variable.numpy() + generator.normal(0, 0.01, variable.shape)
            ).astype(variable.dtype)
            for variable in variables
        }
        arrays["step"] = np.int64(step)
        checkpoints.save(run.checkpoints(checkpoint), step, arrays)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each model. Read-only."""
    folder = tmp_path_factory.mktemp("runs")
    return {model: write_run(folder / model, model) for model in MODELS}


@pytest.fixture
def run_dir(runs):
    return runs["dense"].path


def shapes_of(model, format):
    """Batches of several sizes, and of images of several sizes where supported."""
    shapes = [(1, *SHAPE), (5, *SHAPE)]
    if format == "saved_model" and model in SIZE_MULTIPLES:
        multiple = SIZE_MULTIPLES[model]
        shapes += [(3, multiple, 3 * multiple, 1), (2, 10 * multiple, multiple, 1)]
        shapes += [(1, 30 * multiple, 41 * multiple, 1)]
    return shapes


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory):
    """A folder of all models in all formats, with inputs and another process' outputs.

    It holds only what was exported and the arrays.
    """
    folder = tmp_path_factory.mktemp("exported")
    generator = np.random.default_rng(0)
    names = set()
    for model, run in runs.items():
        for format in SUFFIXES:
            name = f"{model}-{format}"
            output = str(folder / name) + SUFFIXES[format]
            assert export(run.path, output, "latest", format) == STEPS["latest"]
            shapes = shapes_of(model, format)
            # Noisy images may have values outside [0, 1].
            images = [3 * generator.random(shape, np.float32) - 1 for shape in shapes]
            np.savez(folder / f"{name}.npz", *images)
            names |= {os.path.basename(output), f"{name}.npz"}
    assert {path.name for path in folder.iterdir()} == names
    subprocess.run([sys.executable, "-c", _OPEN, *MODELS], check=True, cwd=folder)
    return folder


@pytest.mark.parametrize("format", sorted(SUFFIXES))
@pytest.mark.parametrize("model", MODELS)
def test_an_exported_model_gives_the_same_output_without_aelab(
    runs, exported, model, format
):
    trained = load_trained(runs[model], "latest")
    models = {SHAPE: trained.autoencoder.model}
    with (
        np.load(exported / f"{model}-{format}.npz") as inputs,
        np.load(exported / f"{model}-{format}.out.npz") as outputs,
    ):
        assert len(outputs) == len(inputs) == len(shapes_of(model, format))
        for name, images in inputs.items():
            shape = images.shape[1:]
            if shape not in models:
                models[shape] = build_model(trained.config, shape).model
                weights = trained.autoencoder.model.get_weights()
                models[shape].set_weights(weights)
            expected = models[shape](images).numpy()
            largest = max(1.0, np.abs(expected).max())  # of a sigmoid it is 1
            np.testing.assert_allclose(outputs[name], expected, atol=1e-6 * largest)


@pytest.mark.parametrize("format", sorted(SUFFIXES))
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"image_channels": 3, "noise_stddev_max": 0.2},
        {"supervision": "noise2void", "corruption": "none", "loss": "mse"},
    ],
    ids=str,
)
def test_a_denoiser_of_whole_pictures_takes_any_size(tmp_path, values, format):
    values = {"dataset": "images", "data_dir": "a", "whole_pictures": True} | values
    shape = (32, 32, values.get("image_channels", 1))
    run = write_run(tmp_path / "run", "resunet", shape, filters=4, **values)
    output = str(tmp_path / "model") + SUFFIXES[format]
    export(run.path, output, "latest", format)
    if format == "keras":
        model = keras.models.load_model(output, safe_mode=True)
    else:
        signature = tf.saved_model.load(output).signatures["serving_default"]
        model = lambda images: signature(images=images)["output"]  # noqa: E731
    trained = load_trained(run, "latest", any_size=True).autoencoder.model
    for size in ((40, 24), (8, 80)):
        images = tf.random.stateless_uniform([2, *size, shape[2]], [0, 1], -1, 2)
        expected = trained(images)
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(model(images), expected, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_a_keras_file_has_encoder_and_decoder(runs, exported, model):
    exported_model = keras.models.load_model(exported / f"{model}-keras.keras")
    images = np.random.default_rng(0).random((5, *SHAPE), np.float32)
    code = exported_model.get_layer("encoder")(images)
    autoencoder = load_trained(runs[model], "latest").autoencoder
    expected = autoencoder.encoder(images)
    for actual, right in zip(
        tf.nest.flatten(code), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(actual, right, atol=1e-5)
    if autoencoder.bottleneck:
        code = autoencoder.bottleneck(code, None)
    np.testing.assert_allclose(
        exported_model.get_layer("decoder")(code), exported_model(images), atol=1e-6
    )


def test_the_best_weights_are_exported_by_default(runs, run_dir, tmp_path):
    output = tmp_path / "model"
    assert export(run_dir, str(output), format="saved_model") == STEPS["best"]
    serve = tf.saved_model.load(str(output)).signatures["serving_default"]
    images = np.random.default_rng(0).random((5, *SHAPE), np.float32)
    best, latest = (
        load_trained(runs["dense"], name).autoencoder.model(images) for name in STEPS
    )
    assert np.abs(best - latest).max() > 1e-3
    result = serve(images=tf.constant(images))["output"]
    np.testing.assert_allclose(result, best, atol=1e-6)


@pytest.fixture
def untrained(tmp_path):
    """A run directory that does not exist: the output is checked first."""
    return str(tmp_path / "none")


@pytest.mark.parametrize(
    ("format", "output", "message"),
    [
        ("keras", "model.h5", "must end in .keras"),
        ("keras", "model", "--format=saved_model"),
        ("keras", "none/model.keras", "does not exist"),
        ("keras", "folder.keras", "is a folder"),
        ("saved_model", "model.keras", "writes a folder"),
        ("saved_model", "none/model", "does not exist"),
        ("saved_model", "\udcff", "not UTF-8"),
        ("saved_model", "full", "a folder with other files"),
        ("saved_model", "file", "is a file"),
    ],
)
def test_a_bad_output_is_refused(untrained, tmp_path, format, output, message):
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=message) as error:
        export(untrained, str(tmp_path / output), format=format)
    assert f"--output={tmp_path / output}" in str(error.value)
    assert (tmp_path / "full" / "mine").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("format", sorted(SUFFIXES))
def test_a_failed_export_leaves_the_existing_output(
    run_dir, tmp_path, monkeypatch, format
):
    output = tmp_path / f"model{SUFFIXES[format]}"
    if format == "keras":
        output.write_text("old")
    else:
        output.mkdir()

    def fail(module, path, signatures):
        (tmp_path / path / "half").write_text("half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    def fail_to_replace(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    if format == "keras":
        monkeypatch.setattr(os, "replace", fail_to_replace)
    else:
        monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match=r"error|No space left") as error:
        export(run_dir, str(output), format=format, overwrite=True)
    assert error.value.filename == str(output)
    assert list(tmp_path.iterdir()) == [output]
    if format == "keras":
        assert output.read_text() == "old"
    else:
        assert list(output.iterdir()) == []


def test_a_saved_model_that_can_not_be_replaced_stays(run_dir, tmp_path, monkeypatch):
    output = tmp_path / "model"
    export(run_dir, str(output), format="saved_model")
    (output / "variables" / "old").touch()

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="error"):
        export(run_dir, str(output), format="saved_model", overwrite=True)
    assert list(tmp_path.iterdir()) == [output]
    assert (output / "variables" / "old").exists()


def test_a_file_is_exported_without_a_temporary_folder(run_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    export(run_dir, str(tmp_path / "a.keras"))
    assert os.listdir(tmp_path) == ["a.keras"]
    keras.saving.load_model(tmp_path / "a.keras")


def test_a_saved_model_is_replaced_through_a_link_but_not_with_other_files(
    run_dir, tmp_path
):
    output, link = tmp_path / "model", tmp_path / "link"
    output.mkdir()
    link.symlink_to(output)
    export(run_dir, str(link), format="saved_model")
    (output / "variables" / "old").touch()
    export(run_dir, str(link), format="saved_model", overwrite=True)
    assert link.is_symlink()
    assert not (output / "variables" / "old").exists()
    (output / "mine").write_text("mine")
    with pytest.raises(UsageError, match="is a folder with other files"):
        export(run_dir, str(output), format="saved_model", overwrite=True)
    assert (output / "mine").read_text() == "mine"


def test_a_folder_that_appears_during_the_export_is_not_replaced(
    run_dir, tmp_path, monkeypatch
):
    output, save = tmp_path / "model", tf.saved_model.save

    def save_late(*arguments, **named):
        save(*arguments, **named)
        output.mkdir()
        (output / "mine").write_text("mine")

    monkeypatch.setattr(tf.saved_model, "save", save_late)
    with pytest.raises(UsageError, match=r"can't be written: .*not empty"):
        export(run_dir, str(output), format="saved_model")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine"]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_the_precision_of_the_training_is_not_exported(runs, precision, tmp_path):
    mixed = write_run(tmp_path / "run", "dense", precision=precision)
    images = np.random.default_rng(1).random((3, *SHAPE), np.float32)
    for format, suffix in SUFFIXES.items():
        outputs = []
        for name, run in (("a", runs["dense"]), ("b", mixed)):
            output = str(tmp_path / f"{name}{suffix}")
            export(run.path, output, format=format)
            if format == "keras":
                model = keras.models.load_model(output, safe_mode=True)
                assert {layer.dtype_policy.name for layer in model.layers} == {
                    "float32"
                }
                outputs.append(model.predict(images, verbose=0))
            else:
                serve = tf.saved_model.load(output).signatures["serving_default"]
                outputs.append(serve(images=tf.constant(images))["output"].numpy())
        np.testing.assert_array_equal(*outputs)
