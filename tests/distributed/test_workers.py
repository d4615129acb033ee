import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aelab.config import Config
from aelab.distributed.cluster import Cluster
from aelab.distributed.devices import Distribution
from aelab.distributed.workers import WorkerGroup, shared_settings
from aelab.errors import UsageError


def test_one_worker_communicates_with_itself():
    group = Distribution(Config())
    assert group.is_chief
    assert group.max_over_workers(15) == 15
    arrays = {"a": np.array([1.5, np.nan]), "b": np.array(3)}
    received = group.broadcast_from_chief(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(received[name], array)
    group.check_same_settings(shared_settings(Config(), {"train": "x"}))


def test_shared_settings_have_the_names_of_their_flags():
    settings = shared_settings(Config(seed=3), {"train": "50 images"})
    assert settings["--seed"] == 3
    assert settings["train data"] == "50 images"
    assert {"TensorFlow", "Keras", "aelab"} <= set(settings)


def test_workers_may_have_their_data_in_different_folders():
    one, two = (
        shared_settings(Config(dataset="idx", data_dir=folder), {})
        for folder in ("/a", "/b")
    )
    assert one == two


def run_workers(function):
    """The results of `function(group)` on two workers.

    The workers are threads, and their sum is NumPy's. The multi-worker tests use
    processes and TensorFlow's sum.
    """
    rows, barrier = {}, threading.Barrier(2, timeout=60)

    class Worker(WorkerGroup):
        def sum_over_workers(self, values):
            assert values.dtype == np.int64
            rows[self.worker] = values
            barrier.wait()
            total = rows[0] + rows[1]
            barrier.wait()
            return total

    groups = [Worker(None, Cluster(("a:1", "b:1"), index)) for index in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, groups))


def test_the_chief_is_worker_0():
    assert run_workers(lambda group: group.is_chief) == [True, False]


def test_the_maximum_is_the_same_on_all_workers():
    maxima = run_workers(lambda group: group.max_over_workers(7 * group.worker))
    assert maxima == [7, 7]


def test_the_arrays_of_the_chief_are_broadcast_bit_for_bit():
    def arrays(sign, number):
        values = np.array([[-0.0, np.inf, 1e-45]], np.float32) * np.float32(sign)
        whole = {"a": values, "b": np.array(2**62 + number)}
        return whole | {"c": np.zeros([0, 2]), "d": np.array([True])}

    expected = arrays(-1, 0)
    for received in run_workers(
        lambda group: group.broadcast_from_chief(
            expected if group.is_chief else arrays(1, 1)
        )
    ):
        for name, array in expected.items():
            assert received[name].tobytes() == array.tobytes(), name
            assert received[name].shape == array.shape
            assert received[name].dtype == array.dtype


def test_different_settings_are_named_on_all_workers():
    def check(group):
        with pytest.raises(UsageError) as error:
            group.check_same_settings({"--x": 1, "--y": group.worker, "z data": "s"})
        group.check_same_settings({"--x": 1})
        group.barrier()
        return str(error.value)

    message = "the workers were not started with the same settings; they differ in --y"
    assert run_workers(check) == [message, message]
