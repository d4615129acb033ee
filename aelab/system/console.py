"""Console output: a progress bar on a terminal, plain lines otherwise."""

import contextlib
import os
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from aelab.metric_info import format_value

_QUIET_SECONDS = 15.0  # minimum time between progress lines without a terminal
_DRAW_SECONDS = 0.1  # minimum time between updates of the bar's text


class Console(contextlib.AbstractContextManager["Console"]):
    """Lines and progress of a run. A context manager."""

    def __init__(
        self,
        first_step: int,
        total_steps: int,
        on_progress: Callable[[int, int], None] | None = None,
    ):
        """Starts the bar at `first_step` of `total_steps`.

        `on_progress` is called with the step and the total.
        """
        self._on_progress = on_progress
        self._is_terminal = sys.stderr.isatty()
        self._last_line = time.monotonic()
        self._last_draw = -_DRAW_SECONDS
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            unit="step",
            disable=not self._is_terminal,
            dynamic_ncols=True,
            leave=False,
        )

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def progress(self, step: int, text: Callable[[], str]) -> None:
        """Moves the bar to `step`. Without a terminal, prints a line now and then.

        `text` returns the metrics to show. It is called only when they are shown.
        """
        if self._on_progress:
            self._on_progress(step, self._bar.total)
        now = time.monotonic()
        if not self._is_terminal:
            if now - self._last_line > _QUIET_SECONDS:
                self.line(f"step {step}/{self._bar.total}  {text()}")
            return
        if now - self._last_draw > _DRAW_SECONDS:
            self._bar.set_postfix_str(text(), refresh=False)
            self._last_draw = now
        self._bar.update(step - self._bar.n)

    def line(self, text: str) -> None:
        """Prints a line above the bar."""
        self._bar.clear()
        say(text)
        self._bar.refresh()
        self._last_line = time.monotonic()


def output(text: str) -> None:
    """Prints what a script is there to print.

    Raises:
      OSError: standard output can't be written: a full disk, or a closed pipe.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def say(text: str) -> None:
    """Prints a message on the work, which continues if nobody can read it."""
    try:
        output(text)
    except OSError as error:
        # What is left in buffers, and later messages, go there.
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())
        warn(f"{error}; the work continues without messages")


def warn(text: str, kind: str = "warning") -> None:
    """Prints a line on standard error, above the bar if there is one."""
    with contextlib.suppress(OSError):  # standard error may be on a full disk
        tqdm.write(f"{kind}: {printable(text)}", file=sys.stderr)
        sys.stderr.flush()


def printable(text: str) -> str:
    """`text`, for example with the name of a file, in one line that can be printed.

    Control characters and bytes that are not UTF-8 are escaped.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def metrics_text(values: dict[str, float]) -> str:
    """Metrics in one line, for example `loss 0.2981  psnr 16.52`."""
    return "  ".join(f"{name} {format_value(name, v)}" for name, v in values.items())
