import subprocess
import sys


def test_tensorflow_starts_without_a_word():
    code = (
        "from aelab.startup import start_tensorflow; start_tensorflow()\n"
        "import tensorflow as tf\n"
        "print(float(tf.reduce_sum(tf.ones([3]))))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.stdout, found.stderr, found.returncode) == ("3.0\n", "", 0)


def test_what_was_held_back_is_shown_after_a_failure():
    code = (
        "import os\n"
        "from aelab.startup import held_back_stderr\n"
        "with held_back_stderr():\n"
        "    os.write(2, b'the reason\\n')\n"
        "    raise OSError"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.stderr.split("\n")[0], found.returncode) == ("the reason", 1)
