"""The log file of a worker that is not the chief."""

import contextlib
import os
import time
from collections.abc import Iterator

from aelab.distributed.cluster import Cluster
from aelab.errors import UsageError
from aelab.system.console import say
from aelab.system.startup import redirect_fds


@contextlib.contextmanager
def worker_log(cluster: Cluster | None, run_dir: str) -> Iterator[None]:
    """Redirects a non-chief worker's output to a log, `RUN_DIR.worker-INDEX.log`.

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
        say(time.strftime("%Y-%m-%d %H:%M:%S"))
        try:
            yield
        except Exception as error:
            say(str(error))
            raise
