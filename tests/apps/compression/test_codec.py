import concurrent.futures
import os

import numpy as np
import pytest
from codec_runs import some_images, untrained_run

from aelab.apps.compression.codec import open_codec, to_integers
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory

pytest_plugins = ["codec_runs"]


def test_other_batches_give_the_same_symbols_and_nearly_the_same_pixels(any_codec_run):
    codec, images = open_codec(RunDirectory(any_codec_run)), some_images(200)
    symbols = codec.encode(images)
    pixels = codec.decode(symbols).astype(int)
    for size in (1, 7, 64):
        codec.networks.batch_size = size
        np.testing.assert_array_equal(codec.encode(images), symbols)
        assert np.abs(codec.decode(symbols).astype(int) - pixels).max() <= 1


def test_processes_that_fit_tables_at_once_get_the_same(tmp_path):
    run_dir = untrained_run(tmp_path / "run", model="dense", train_examples=200)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(open_codec, RunDirectory(run_dir)) for _ in range(3)]
        assert len({future.result().tables.crc for future in futures}) == 1
    assert len(os.listdir(os.path.join(run_dir, "codec"))) == 1


@pytest.mark.parametrize("model", ["conv", "unet"])
def test_models_whose_code_is_not_a_row_of_numbers_are_refused(tmp_path, model):
    run_dir = untrained_run(tmp_path / "run", model=model)
    with pytest.raises(UsageError, match=f"--run_dir={run_dir}.* --model={model}"):
        open_codec(RunDirectory(run_dir))
    assert not (tmp_path / "run" / "codec").exists()


def test_a_step_for_a_model_with_a_prior_is_refused(codec_run):
    with pytest.raises(UsageError, match=r"quantiser_step=2.*--model=codec"):
        open_codec(RunDirectory(codec_run), step=2.0)


@pytest.mark.parametrize("step", [-1.0, 1e-8, 1e300, float("nan"), float("inf")])
def test_a_step_out_of_range_is_refused(dense_run, step):
    with pytest.raises(UsageError, match=r"must be from 0\.001 to 1000"):
        open_codec(RunDirectory(dense_run), step=step)


def test_integers_are_the_nearest_multiples():
    code = np.array([[0.24, 0.26, -0.26, 1e30, -1e30, np.inf]], np.float32)
    np.testing.assert_array_equal(
        to_integers(code, 0.5), [[0, 1, -1, 2**20, -(2**20), 2**20]]
    )
