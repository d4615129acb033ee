"""`metrics.jsonl`: one line per log entry and evaluation.

It is a result of the run: if it can't be written, training stops.
"""

import contextlib
import errno
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from aelab.system.console import warn
from aelab.system.files import reporting_size

_BLOCK = 1 << 16  # bytes


class MetricsLog:
    """Appends lines to `metrics.jsonl`."""

    def __init__(self, path: str, keep_until: Mapping[str, int]):
        """Opens the file and drops lines that are ahead of the restored state.

        A warning says so if the last line that the state knows of is lost.

        Args:
          path: the file.
          keep_until: the last logged step of each split. Later lines were written by a
            run that was killed.
        """
        self._path = path
        last = _truncate(path, keep_until)
        # At the same step, the line of the evaluation is the later one.
        step, _, split = max(
            (n, name == "eval", name) for name, n in keep_until.items()
        )
        if step and (last.get("step"), last.get("split")) != (step, split):
            warn(
                f"{path} has lost lines: the run wrote them up to step {step}, and the "
                f"last one left is of step {last.get('step', 0)}; training continues"
            )
        # Unbuffered: a failed write is not repeated when the file is closed.
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def write(
        self, split: str, step: int, epoch: float, values: Mapping[str, float]
    ) -> None:
        """Writes one line; a value that is not finite becomes `null`.

        Raises:
          OSError: the line can't be written.
        """
        line: dict[str, Any] = {"step": step, "epoch": round(epoch, 4), "split": split}
        line |= {name: v if math.isfinite(v) else None for name, v in values.items()}
        content = json.dumps(line).encode() + b"\n"
        size = os.fstat(self._file.fileno()).st_size
        with reporting_size(self._path, len(content)):
            try:
                if self._file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(size)  # only whole lines
                raise

    def sync(self) -> None:
        """Returns when all lines are on disk.

        Raises:
          OSError: they can't be written.
        """
        with reporting_size(self._path, 0):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _truncate(path: str, keep_until: Mapping[str, int]) -> dict[str, Any]:
    """Truncates `metrics.jsonl` to the lines covered by the restored state.

    Returns the values of the last line that is left; empty if there is none.

    The file is read from its end. Only lines since the last checkpoint are dropped, so
    the cost does not depend on the length of the run.
    """
    if not os.path.exists(path):
        return {}
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        tail = b""
        while True:
            kept = _kept(tail, keep_until, is_whole=len(tail) == end)
            if kept is not None:
                break
            size = min(end, 2 * len(tail) or _BLOCK)
            file.seek(end - size)
            tail = file.read(size)
        length = end - len(tail) + kept
        if length != end:
            file.truncate(length)
    return dict(json.loads(tail[:kept].splitlines()[-1])) if kept else {}


def _kept(tail: bytes, keep_until: Mapping[str, int], is_whole: bool) -> int | None:
    """The number of bytes to keep of a file's tail; None if the tail is too short."""
    lines = tail.splitlines(keepends=True)
    # The first line of a partial tail may be incomplete.
    for number in reversed(range(0 if is_whole else 1, len(lines))):
        if _is_kept(lines[number], keep_until):
            return sum(map(len, lines[: number + 1]))
    return 0 if is_whole else None


def _is_kept(line: bytes, keep_until: Mapping[str, int]) -> bool:
    try:
        values = json.loads(line)
        return line.endswith(b"\n") and values["step"] <= keep_until[values["split"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
