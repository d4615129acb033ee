"""Decoded pictures that stay in memory."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class _Sized(Protocol):
    @property
    def nbytes(self) -> int:
        """Its size in bytes."""


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value", bound=_Sized)


class MemoryCache(Generic[Key, Value]):
    """Keeps values, the first ones that are used, until one does not fit.

    Each epoch uses every picture once, so a cache that drops the oldest would have
    dropped each one before it is used again. Several threads may use it at once.
    """

    def __init__(self, megabytes: int):
        self._free = megabytes * 10**6
        self._is_full = megabytes == 0
        self._kept: dict[Key, Value] = {}
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value | None:
        """The value of `key`, by `make` the first time; None if there is no room."""
        if (kept := self._kept.get(key)) is not None or self._is_full:
            return kept
        made = make()
        with self._lock:
            if key not in self._kept and not self._is_full:
                self._is_full = made.nbytes > self._free
                if not self._is_full:
                    self._free -= made.nbytes
                    self._kept[key] = made
        return made
