import numpy as np
import pytest

from aelab.config import Config
from aelab.errors import UsageError
from aelab.models import SIZE_MULTIPLES
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained


@pytest.mark.parametrize("checkpoint", ["best", "latest"])
def test_weights_are_those_of_the_checkpoint(any_run, checkpoint):
    trained = load_trained(any_run, checkpoint)
    path = checkpoints.newest(any_run.checkpoints(checkpoint))
    with np.load(path, allow_pickle=False) as arrays:
        assert trained.step == arrays["step"]
        for variable in trained.model.variables:
            np.testing.assert_array_equal(variable, arrays[f"model/{variable.path}"])
    assert trained.image_shape == (28, 28, 1)


def test_a_model_for_any_size_is_the_same(any_run):
    """Where the network is of convolutions alone; else it is for the run's own."""
    of_run = load_trained(any_run, "best").model
    found = load_trained(any_run, "best", any_size=True)
    images = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    np.testing.assert_allclose(found.model(images), of_run(images), atol=1e-6)
    is_open = found.config.model in SIZE_MULTIPLES
    assert found.model.input_shape == (
        (None, None, None, 1) if is_open else (None, 28, 28, 1)
    )
    assert found.image_shape == (28, 28, 1)


def test_a_run_without_checkpoints_is_refused(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.write(Config(), {"image_shape": [28, 28, 1]}, {})
    with pytest.raises(UsageError, match="no best checkpoint"):
        load_trained(run, "best")
