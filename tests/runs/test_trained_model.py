import numpy as np
import pytest
from registries import SIZE_MULTIPLES

from aelab.config import Config
from aelab.config.registry import MODELS
from aelab.errors import UsageError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.training.state import TrainState

SHAPE = (16, 16, 1)
STEPS = {"best": 3, "latest": 5}


@pytest.fixture(scope="module", params=sorted(MODELS))
def run(request, tmp_path_factory):
    """A run whose checkpoints have different random weights."""
    run = RunDirectory(str(tmp_path_factory.mktemp("run") / "run"))
    config = Config(model=request.param, loss="mse")
    run.write(config, {"image_shape": list(SHAPE)}, {})
    arrays = TrainState(config, SHAPE, 10).arrays()
    generator = np.random.default_rng(0)
    for checkpoint, step in STEPS.items():
        for name, array in arrays.items():
            if name.startswith("model/") and array.dtype == np.float32:
                noise = generator.normal(0, 0.01, array.shape).astype(np.float32)
                arrays[name] = array + noise
        arrays["step"] = np.int64(step)
        checkpoints.save(run.checkpoints(checkpoint), step, arrays)
    return run


@pytest.mark.parametrize("checkpoint", STEPS)
def test_the_model_has_the_weights_of_the_checkpoint(run, checkpoint):
    trained = load_trained(run, checkpoint)
    path = checkpoints.newest(run.checkpoints(checkpoint))
    with np.load(path, allow_pickle=False) as arrays:
        assert trained.step == arrays["step"] == STEPS[checkpoint]
        for variable in trained.autoencoder.model.variables:
            np.testing.assert_array_equal(variable, arrays[f"model/{variable.path}"])
    assert trained.image_shape == SHAPE


def test_a_model_for_any_size_is_the_same(run):
    """Convolutional networks take any size; others have the run's size."""
    expected = load_trained(run, "best").autoencoder.model
    trained = load_trained(run, "best", any_size=True)
    images = np.random.default_rng(0).random((2, *SHAPE), np.float32)
    np.testing.assert_allclose(
        trained.autoencoder.model(images), expected(images), atol=1e-6
    )
    takes_any_size = trained.config.model in SIZE_MULTIPLES
    assert trained.autoencoder.model.input_shape == (
        (None, None, None, 1) if takes_any_size else (None, *SHAPE)
    )
    assert trained.image_shape == SHAPE


def test_a_run_without_checkpoints_is_refused(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.write(Config(), {"image_shape": [28, 28, 1]}, {})
    with pytest.raises(UsageError, match="no best checkpoint"):
        load_trained(run, "best")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.write(Config(model="dense"), {"image_shape": list(SHAPE)}, {})
    path = checkpoints.save(run.best, 1, {"step": np.int64(1)})
    with pytest.raises(UsageError, match=r"another model: .* is missing") as error:
        load_trained(run, "best")
    assert path in str(error.value)
