"""Signals that ask a run to stop."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from aelab.errors import Stopped

_ASKING = (signal.SIGTERM, signal.SIGINT)
# `timeout`, `srun` and others send a signal to the process and to its group.
_SAME_SIGNAL_SECONDS = 0.05

# Whether a run has met a signal's request and is on its way out.
is_stopping = False


class StopRequest:
    """Takes note of SIGTERM and SIGINT instead of dying of them, in a `with` statement.

    A thread takes the note, as Python's own handlers have to wait for the end of a
    compiled call. A second signal ends the process at once, with exit code 128 + n.

    Attributes:
      signal_number: the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            for number in _ASKING:
                # Python's part of the handler has nothing left to do.
                self._before[number] = signal.signal(number, lambda *_: None)
            self._thread = threading.Thread(
                target=self._watch, args=(read,), daemon=True
            )
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        global is_stopping
        is_stopping = kind is Stopped
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._write)
            self._thread.join()

    def _watch(self, read: int) -> None:
        """Reads the numbers of signals from the pipe until that is closed."""
        noted = 0.0
        while byte := os.read(read, 1):
            if byte[0] not in _ASKING:
                continue
            if not self.signal_number:
                self.signal_number, noted = byte[0], time.monotonic()
            elif time.monotonic() - noted > _SAME_SIGNAL_SECONDS:
                os._exit(128 + byte[0])
        os.close(read)


@contextlib.contextmanager
def default_signal_handling() -> Iterator[None]:
    """Lets signals end the process while it waits in C++ code, deaf to Python's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ASKING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
