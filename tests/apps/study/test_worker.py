import gc
import os
import signal
import subprocess
import sys
import time

import keras
import pytest
from tensorflow.python.framework.func_graph import FuncGraph

from aelab.apps.study.worker import forget_run
from aelab.config import Config
from aelab.training.run import train_and_evaluate

CONFIG = Config(train_examples=32, eval_examples=16, batch_size=16, epochs=1)


def test_nothing_of_a_run_remains_in_its_process(tmp_path):
    graphs, names = [], []
    for number in range(3):
        train_and_evaluate(CONFIG, str(tmp_path / str(number)))
        names.append(keras.layers.Dense(1).name)
        forget_run()
        graphs.append(sum(isinstance(each, FuncGraph) for each in gc.get_objects()))
    # What other tests have left may go at any time.
    assert graphs[2] <= graphs[1]
    assert names[1] == names[2]


def test_an_interrupt_ends_an_idle_process_without_a_traceback():
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("with one core nothing shows that the process has started")
    core = str(max(cores))
    worker = subprocess.Popen(
        [sys.executable, "-m", "aelab.apps.study.worker", core],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 60
    while os.sched_getaffinity(worker.pid) != {int(core)} and time.monotonic() < end:
        time.sleep(0.02)
    worker.send_signal(signal.SIGINT)
    _, message = worker.communicate(timeout=60)
    assert (worker.returncode, message) == (-signal.SIGINT, b"")
