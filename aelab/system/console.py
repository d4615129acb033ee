"""What a run says: a progress bar on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from aelab.distributed.cluster import Cluster
from aelab.errors import UsageError
from aelab.system.startup import redirect_fds

_QUIET_SECONDS = 15.0  # without a terminal: at least so long between training lines
_DRAWN_SECONDS = 0.1  # on a terminal: no more often


class Console:
    """Lines and the progress of a run; to be used in a `with` statement."""

    def __init__(self, first_step: int, total_steps: int):
        """Starts the bar at `first_step` of `total_steps`."""
        self._terminal = sys.stderr.isatty()
        self._spoke = time.monotonic()
        self._drawn = -_DRAWN_SECONDS
        self._has_warned = False
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            unit="step",
            disable=not self._terminal,
            dynamic_ncols=True,
            leave=False,
        )

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def progress(self, step: int, figures: Callable[[], str]) -> None:
        """Moves the bar to `step`; without a terminal, says so now and then.

        Args:
          step: where the run stands.
          figures: gives what is told beside it; asked for only where it is told.
        """
        now = time.monotonic()
        if not self._terminal:
            if now - self._spoke > _QUIET_SECONDS:
                self.line(f"step {step}/{self._bar.total}  {figures()}")
            return
        if now - self._drawn > _DRAWN_SECONDS:
            self._bar.set_postfix_str(figures(), refresh=False)
            self._drawn = now
        self._bar.update(step - self._bar.n)

    def line(self, text: str) -> None:
        """Prints a line above the bar."""
        self._bar.clear()
        try:
            print(text, flush=True)
        except OSError as error:  # a full disk, or nobody who listens
            if not self._has_warned:
                self._has_warned = True
                warn(f"can't write to standard output: {error}; training goes on")
        self._bar.refresh()
        self._spoke = time.monotonic()


def warn(text: str) -> None:
    """Prints a warning on standard error, above the bar if there is one."""
    with contextlib.suppress(OSError):  # on a full disk, of which it may tell
        tqdm.write(f"warning: {text}", file=sys.stderr)
        sys.stderr.flush()


def metrics_text(values: dict[str, float]) -> str:
    """`loss 0.2981  psnr 16.52  ...`, each in the digits that it deserves."""
    digits = {"psnr": ".2f", "learning_rate": ".2g", "images_per_second": ",.0f"}
    return "  ".join(f"{n} {v:{digits.get(n, '.4f')}}" for n, v in values.items())


@contextlib.contextmanager
def worker_log(cluster: Cluster | None, run_dir: str) -> Iterator[None]:
    """Sends what a worker that is not the chief says to a file of its own.

    Args:
      cluster: the workers, None if there is one.
      run_dir: the run's folder; the file stands beside it.

    Raises:
      UsageError: the file can't be written.
    """
    if cluster is None or cluster.is_chief:
        yield
        return
    path = f"{os.path.abspath(run_dir)}.worker-{cluster.index}.log"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = open(path, "ab")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"the log {path} can't be written: {error}") from None
    with file, redirect_fds((1, 2), file):
        print(time.strftime("%Y-%m-%d %H:%M:%S"), flush=True)
        try:
            yield
        except Exception as error:
            print(error, flush=True)
            raise
