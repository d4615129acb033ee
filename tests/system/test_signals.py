import os
import signal
import threading
import time

import pytest
from processes import ready, run_code

from aelab.system.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_recorded_and_the_handlers_are_restored(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.signal_number == 0
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 10
        while not stop.signal_number and time.monotonic() < deadline:
            time.sleep(0.001)
        assert stop.signal_number == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_during_a_compiled_call(first, second):
    """Python-level handlers would not run before the call returns."""
    code = (
        "import ctypes\n"
        "from aelab.system.signals import StopRequest\n"
        "with StopRequest():\n"
        "    print('ready', flush=True)\n"
        # Like TensorFlow, this blocks in C without the interpreter's lock.
        "    for _ in range(100):\n"
        "        ctypes.CDLL(None).sleep(600)\n"
    )
    with ready(code) as process:
        process.send_signal(first)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(second)
        assert process.wait(timeout=10) == 128 + second


def test_the_same_signal_twice_at_once_counts_once():
    """`timeout` sends a signal to the process and to its group."""
    code = (
        "import time\n"
        "from aelab.system.signals import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(1)\n"
        "    print(stop.signal_number)\n"
    )
    with ready(code) as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=10) == ("15\n", None)
        assert process.returncode == 0


def test_in_another_thread_no_signal_is_recorded():
    numbers = []

    def run():
        with StopRequest() as stop:
            numbers.append(stop.signal_number)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert numbers == [0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_script_that_is_stopped_before_training_exits_with_the_signal(number):
    code = (
        "import os, signal\n"
        "from aelab.cli import run\n"
        # A shell starts a background job with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"run(lambda argv: os.kill(os.getpid(), {int(number)}))\n"
    )
    result = run_code(code)
    assert result.returncode == 128 + number
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_during_exit_is_quiet(number):
    """It may arrive while Python collects the objects of the run."""
    code = (
        "import os, signal, time\n"
        "from aelab.cli import run\n"
        "from aelab.errors import Stopped\n"
        "from aelab.system.signals import StopRequest\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Leftover:\n"
        "    def __del__(self):\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "def main(argv):\n"
        "    leftover = Leftover()\n"
        "    with StopRequest() as stop:\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        while not stop.signal_number:\n"
        "            time.sleep(0.01)\n"
        "        raise Stopped(stop.signal_number, 'saved')\n"
        "run(main)\n"
    )
    result = run_code(code)
    assert (result.returncode, result.stderr) == (128 + number, "")
