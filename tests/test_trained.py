import subprocess
import sys

import numpy as np
import pytest

from aelab import checkpoints
from aelab.config import Config
from aelab.errors import UsageError
from aelab.loop import train_and_evaluate
from aelab.models import MODELS
from aelab.run_directory import RunDirectory
from aelab.trained import export, load_trained

# Keras alone: aelab can't be imported, and neither can its custom code be loaded.
_OPEN_WITHOUT_AELAB = """
import sys
sys.modules["aelab"] = None
import keras, numpy as np
model = keras.models.load_model(sys.argv[1], safe_mode=True)
inputs = np.load(sys.argv[2])
code = model.get_layer("encoder").predict(inputs, verbose=0)
np.savez(sys.argv[3], output=model.predict(inputs, verbose=0), code=code,
         decoded=model.get_layer("decoder").predict(code, verbose=0))
"""


@pytest.fixture(scope="module", params=sorted(MODELS))
def run(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    config = Config(
        model=request.param,
        batch_size=8,
        train_steps=6,
        train_examples=40,
        eval_examples=9,
        learning_rate=0.01,
        eval_every_epochs=1,
    )
    train_and_evaluate(config, str(path))
    return RunDirectory(str(path))


@pytest.mark.parametrize("checkpoint", ["best", "latest"])
def test_weights_are_those_of_the_checkpoint(run, checkpoint):
    trained = load_trained(run, checkpoint)
    path = checkpoints.newest(run.checkpoints(checkpoint))
    with np.load(path, allow_pickle=False) as arrays:
        assert trained.step == arrays["step"]
        for variable in trained.model.variables:
            np.testing.assert_array_equal(variable, arrays[f"model/{variable.path}"])
    assert trained.image_shape == (28, 28, 1)


def test_an_exported_file_opens_without_aelab(run, tmp_path):
    output, inputs, results = (tmp_path / n for n in ("m.keras", "in.npy", "out.npz"))
    export(run.path, str(output))
    images = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    np.save(inputs, images)
    subprocess.run(
        [sys.executable, "-c", _OPEN_WITHOUT_AELAB, output, inputs, results], check=True
    )
    model = load_trained(run, "best").model
    with np.load(results) as found:
        np.testing.assert_allclose(found["output"], model(images), atol=1e-6)
        np.testing.assert_allclose(found["code"], model.encoder(images), atol=1e-5)
        np.testing.assert_allclose(found["decoded"], found["output"], atol=1e-6)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".keras"] == ["m.keras"]


@pytest.mark.parametrize(
    ("output", "message"),
    [("model.h5", "must end in .keras"), ("none/model.keras", "there is no folder")],
)
def test_a_bad_output_is_refused(run, tmp_path, output, message):
    with pytest.raises(UsageError, match=message):
        export(run.path, str(tmp_path / output))


def test_a_run_without_checkpoints_is_refused(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.write(Config(), {"image_shape": [28, 28, 1]}, {})
    with pytest.raises(UsageError, match="no best checkpoint"):
        load_trained(run, "best")
