import os
import subprocess
import sys

from aelab.system.startup import start_tensorflow


def test_tensorflow_starts_without_a_word_with_its_threads_and_fast_kernels():
    code = (
        "import os\n"
        "from aelab.system.startup import start_tensorflow\n"
        "start_tensorflow(threads_per_op=3)\n"
        "import tensorflow as tf\n"
        "print(float(tf.reduce_sum(tf.ones([3]))))\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads())\n"
        "print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    )
    env = {n: v for n, v in os.environ.items() if n != "TF_ENABLE_ONEDNN_OPTS"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env
    )
    assert (found.stdout, found.stderr, found.returncode) == ("3.0\n3\n1\n", "", 0)


def test_fast_kernels_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    start_tensorflow()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_what_was_held_back_is_shown_after_a_failure():
    code = (
        "import os\n"
        "from aelab.system.startup import buffered_stderr\n"
        "with buffered_stderr():\n"
        "    os.write(2, b'the reason\\n')\n"
        "    raise OSError"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.stderr.split("\n")[0], found.returncode) == ("the reason", 1)
