"""Signals that ask a run to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

_ASKING = (signal.SIGTERM, signal.SIGINT)


class SignalNote:
    """Takes note of SIGTERM and SIGINT instead of dying of them, in a `with` statement.

    Attributes:
      signal_number: the signal that came, 0 before. The same signal again
        ends the process at once. Python is told of a signal between two compiled
        calls, not during one.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "SignalNote":
        if threading.current_thread() is threading.main_thread():
            for number in _ASKING:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.signal_number = number
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def signals_that_end_at_once() -> Iterator[None]:
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
