import os
import signal
import sys

import pytest
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


def test_no_folder_needs_to_be_writable(tmp_path):
    """With stubs that need what TensorFlow, Keras and matplotlib need."""
    stubs = {
        "tensorflow": f"{STUB}import tempfile; tempfile.gettempdir()\n",
        "keras": f"{STUB}try: import matplotlib\nexcept ImportError: pass\n",
        "matplotlib": "raise OSError('not a writable directory')\n",
    }
    for name, text in stubs.items():
        (tmp_path / f"{name}.py").write_text(text)
    code = (
        "import tempfile\n"
        "tempfile._candidate_tempdir_list = list\n"
        "from aelab.system.startup import start_tensorflow\n"
        "start_tensorflow()\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    result = run_code(code, env)
    assert (result.stderr, result.returncode) == ("", 0)


def test_fast_kernels_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    start_tensorflow()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ("raise OSError", 1),
        ("sys.exit(7)", 7),
        ("os.abort()", -signal.SIGABRT),
        ("pass", 0),
    ],
)
def test_buffered_output_is_shown_after_a_failure(failure, code):
    program = (
        "import os, sys, tempfile\n"
        "tempfile.tempdir = '/nowhere'\n"
        "from aelab.system.startup import buffered_stderr\n"
        "with buffered_stderr():\n"
        "    os.write(2, b'the reason\\n')\n"
        f"    {failure}"
    )
    result = run_code(program)
    assert result.stderr.split("\n")[0] == ("the reason" if code else "")
    assert result.returncode == code


@pytest.mark.parametrize("content", ['{"floatx": "float33"}', "[]"])
def test_a_bad_keras_json_is_one_message(tmp_path, content):
    (tmp_path / "keras.json").write_text(content)
    code = (
        "from aelab.cli import run\n"
        "from aelab.system.startup import start_tensorflow\n"
        "run(lambda argv: start_tensorflow())"
    )
    result = run_code(code, {**os.environ, "KERAS_HOME": str(tmp_path)})
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: Keras refuses {tmp_path}/keras.json: ")
    assert result.stderr.count("\n") == 1
