import errno
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from registries import SIZE_MULTIPLES

from aelab.apps.export import FORMATS, export
from aelab.errors import UsageError
from aelab.models import build_model
from aelab.runs.trained_model import load_trained

# In a process that can't import aelab. Keras alone: nor can it load custom code.
_OPEN_KERAS = """
import sys
sys.modules["aelab"] = None
import keras, numpy as np
model = keras.models.load_model(sys.argv[1], safe_mode=True)
inputs = np.load(sys.argv[2])
np.savez(sys.argv[3], **{name: model.predict(array, verbose=0)
                         for name, array in inputs.items()})
"""
# TensorFlow alone: no Keras either.
_OPEN_SAVED_MODEL = """
import sys
sys.modules["aelab"] = sys.modules["keras"] = None
import numpy as np, tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
inputs = np.load(sys.argv[2])
np.savez(sys.argv[3], **{name: serve(images=tf.constant(array))["output"]
                         for name, array in inputs.items()})
"""
_OPEN = {"keras": _OPEN_KERAS, "saved_model": _OPEN_SAVED_MODEL}
SHAPE = (28, 28, 1)


def name_of(format):
    return "model.keras" if format == "keras" else "model"


def shapes_of(model, format):
    """Batches of several sizes; of images of several where that is to work."""
    shapes = [(1, *SHAPE), (5, *SHAPE)]
    if format == "saved_model" and model in SIZE_MULTIPLES:
        multiple = SIZE_MULTIPLES[model]
        shapes += [(3, multiple, 3 * multiple, 1), (2, 10 * multiple, multiple, 1)]
        shapes += [(1, 30 * multiple, 41 * multiple, 1)]
    return shapes


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_an_exported_model_opens_without_aelab(any_run, tmp_path, format):
    """And gives what the model gives that was trained."""
    output, inputs, results = (
        tmp_path / name for name in (name_of(format), "in.npz", "out.npz")
    )
    trained = load_trained(any_run, "latest")
    assert export(any_run.path, str(output), "latest", format) == trained.step == 6
    generator = np.random.default_rng(0)
    shapes = shapes_of(trained.config.model, format)
    images = [generator.random(shape, np.float32) for shape in shapes]
    np.savez(inputs, *images)
    subprocess.run(
        [sys.executable, "-c", _OPEN[format], output, inputs, results],
        check=True,
        cwd=tmp_path,
    )
    with np.load(results) as found:
        assert len(found) == len(images)
        for array, result in zip(images, found.values(), strict=True):
            model = build_model(trained.config, array.shape[1:]).model
            model.set_weights(trained.autoencoder.model.get_weights())
            np.testing.assert_allclose(result, model(array), atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {
        *(output.name, "in.npz", "out.npz")
    }


def test_a_keras_file_has_encoder_and_decoder(any_run, tmp_path):
    export(any_run.path, str(tmp_path / "model.keras"))
    model = keras.models.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((5, *SHAPE), np.float32)
    code = model.get_layer("encoder")(images)
    autoencoder = load_trained(any_run, "best").autoencoder
    expected = autoencoder.encoder(images)
    for mine, right in zip(
        tf.nest.flatten(code), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(mine, right, atol=1e-5)
    if autoencoder.bottleneck:
        code = autoencoder.bottleneck(code, None)
    np.testing.assert_allclose(
        model.get_layer("decoder")(code), model(images), atol=1e-6
    )


def test_the_best_weights_unless_told(any_run, tmp_path):
    export(any_run.path, str(tmp_path / "model"), format="saved_model")
    serve = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    images = np.random.default_rng(0).random((5, *SHAPE), np.float32)
    expected = load_trained(any_run, "best").autoencoder.model(images)
    found = serve(images=tf.constant(images))["output"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.fixture
def untrained(tmp_path):
    """A run of which nothing is read before its output is refused."""
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
        ("saved_model", "full", "exists already"),
        ("saved_model", "file", "exists already"),
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


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_what_fails_half_way_leaves_what_was_there(
    any_run, tmp_path, monkeypatch, format
):
    output = tmp_path / name_of(format)
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
        export(any_run.path, str(output), format=format)
    assert error.value.filename == str(output)
    assert list(tmp_path.iterdir()) == [output]
    if format == "keras":
        assert output.read_text() == "old"
    else:
        assert list(output.iterdir()) == []


def test_a_folder_that_appears_meanwhile_is_not_replaced(
    any_run, tmp_path, monkeypatch
):
    output, save = tmp_path / "model", tf.saved_model.save

    def save_late(*arguments, **named):
        save(*arguments, **named)
        output.mkdir()
        (output / "mine").write_text("mine")

    monkeypatch.setattr(tf.saved_model, "save", save_late)
    with pytest.raises(UsageError, match=r"can't be written: .*not empty"):
        export(any_run.path, str(output), format="saved_model")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine"]
