import os
import sys

from processes import run_code

from aelab.system.startup import start_tensorflow

STUB = """
import os, unittest.mock
os.write(2, b"noise\\n")
print(os.environ["TF_ENABLE_ONEDNN_OPTS"], os.environ["TF_CPP_MIN_LOG_LEVEL"])
config = unittest.mock.MagicMock()
"""


def test_tensorflow_starts_quietly_with_its_threads_and_fast_kernels(tmp_path):
    """With stubs. Process tests of train.py hold that TensorFlow itself is quiet."""
    for name in ("keras", "tensorflow"):
        (tmp_path / f"{name}.py").write_text(STUB)
    code = (
        "from aelab.system.startup import start_tensorflow\n"
        "start_tensorflow(threads_per_op=3)\n"
        "import tensorflow as tf\n"
        "set_threads = tf.config.threading.set_intra_op_parallelism_threads\n"
        "set_threads.assert_called_once_with(3)\n"
    )
    env = {n: v for n, v in os.environ.items() if not n.startswith("TF_")}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    result = run_code(code, env)
    assert (result.stderr, result.stdout, result.returncode) == ("", "1 2\n1 2\n", 0)


def test_fast_kernels_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    start_tensorflow()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_buffered_output_is_shown_after_a_failure():
    code = (
        "import os\n"
        "from aelab.system.startup import buffered_stderr\n"
        "with buffered_stderr():\n"
        "    os.write(2, b'the reason\\n')\n"
        "    raise OSError"
    )
    result = run_code(code)
    assert (result.stderr.split("\n")[0], result.returncode) == ("the reason", 1)
