import os
import signal
import subprocess
import sys
import threading

import pytest

from aelab.signals import SignalNote


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with SignalNote() as note:
        assert note.signal_number == 0
        os.kill(os.getpid(), number)
        assert note.signal_number == number
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_the_process():
    code = (
        "import os, signal\n"
        "from aelab.signals import SignalNote\n"
        "with SignalNote():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('never', flush=True)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (-signal.SIGTERM, "still here\n")


def test_in_another_thread_nothing_is_noted_and_nothing_breaks():
    notes = []

    def run():
        with SignalNote() as note:
            notes.append(note.signal_number)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert notes == [0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_script_that_is_stopped_before_training_says_so_by_its_exit_code(number):
    code = (
        "import os, signal\n"
        "from aelab import flags\n"
        # A shell's background job is born with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"flags.run(lambda argv: os.kill(os.getpid(), {int(number)}))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 128 + number
    assert "Traceback" not in found.stderr
