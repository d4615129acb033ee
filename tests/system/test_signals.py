import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from aelab.system.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with StopRequest() as note:
        assert note.signal_number == 0
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 10
        while not note.signal_number and time.monotonic() < deadline:
            time.sleep(0.001)
        assert note.signal_number == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_within_a_compiled_call(first, second):
    """Python's own handlers would not be called before its end."""
    code = (
        "import ctypes\n"
        "from aelab.system.signals import StopRequest\n"
        "with StopRequest():\n"
        "    print('ready', flush=True)\n"
        # As TensorFlow does: without the interpreter's lock, deaf to Python's signals.
        "    for _ in range(100):\n"
        "        ctypes.CDLL(None).sleep(600)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(first)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(second)
        assert process.wait(timeout=10) == 128 + second


def test_the_same_signal_twice_at_once_is_one():
    """`timeout` sends a signal to the process, and to its group."""
    code = (
        "import time\n"
        "from aelab.system.signals import StopRequest\n"
        "with StopRequest() as note:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(1)\n"
        "    print(note.signal_number)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=10) == ("15\n", None)
        assert process.returncode == 0


def test_in_another_thread_nothing_is_noted_and_nothing_breaks():
    notes = []

    def run():
        with StopRequest() as note:
            notes.append(note.signal_number)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert notes == [0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_script_that_is_stopped_before_training_says_so_by_its_exit_code(number):
    code = (
        "import os, signal\n"
        "from aelab.cli import flags\n"
        # A shell's background job is born with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"flags.run(lambda argv: os.kill(os.getpid(), {int(number)}))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 128 + number
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_on_the_way_out_is_quiet(number):
    """It may come while Python collects what the run has left."""
    code = (
        "import os, signal, time\n"
        "from aelab.cli import flags\n"
        "from aelab.errors import Stopped\n"
        "from aelab.system.signals import StopRequest\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Left:\n"
        "    def __del__(self):\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "def main(argv):\n"
        "    left = Left()\n"
        "    with StopRequest() as note:\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        while not note.signal_number:\n"
        "            time.sleep(0.01)\n"
        "        raise Stopped(note.signal_number, 'saved')\n"
        "flags.run(main)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (128 + number, "")
