"""Signals that ask a run to stop."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from threading import Thread, current_thread, main_thread
from typing import Any

from aelab.errors import Stopped

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# `timeout`, `srun` and others send a signal to the process and to its group.
_SAME_SIGNAL_SECONDS = 0.05

_current: "StopRequest | None" = None  # of the run under way

# True once a run has stopped in response to a signal and is exiting.
is_stopping = False


class StopRequest:
    """Context manager that records SIGTERM and SIGINT instead of letting them kill.

    A thread does the recording, because Python-level handlers cannot run until a
    compiled call returns. `signal_number` is the signal that arrived, or 0. A second
    signal ends the process at once, with exit code 128 + n.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        global _current
        _current = self
        if current_thread() is main_thread():
            read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            for number in _STOP_SIGNALS:
                # The thread does the work of Python's handler.
                self._handlers[number] = signal.signal(number, lambda *_: None)
            self._thread = Thread(target=self._watch, args=(read,), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        global _current, is_stopping
        _current, is_stopping = None, kind is Stopped
        if self._handlers:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._write)
            self._thread.join()

    def _watch(self, read: int) -> None:
        """Reads signal numbers from the pipe until it is closed."""
        first_time = 0.0
        while byte := os.read(read, 1):
            if byte[0] not in _STOP_SIGNALS:
                continue
            if not self.signal_number:
                self.signal_number, first_time = byte[0], time.monotonic()
            elif time.monotonic() - first_time > _SAME_SIGNAL_SECONDS:
                os._exit(128 + byte[0])
        os.close(read)


def stop(number: int) -> None:
    """Stops the run under way as the first signal `number` does; may be repeated.

    A process without such a run ends at once.
    """
    if request := _current:
        request.signal_number = request.signal_number or number
    else:
        os._exit(128 + number)


@contextlib.contextmanager
def default_signal_handling() -> Iterator[None]:
    """Lets signals end the process in C++ code, where Python's handlers cannot run."""
    if current_thread() is not main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
