"""Signals that ask a run to stop."""

import signal
import threading
from typing import Any


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
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.signal_number = number
        signal.signal(number, signal.SIG_DFL)
