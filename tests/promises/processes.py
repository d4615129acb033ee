"""Runs of scripts/train.py in processes that are forked with TensorFlow imported.

A process that starts afresh needs four seconds of processor time to import TensorFlow.
Here one server imports it, and forks a process for each run.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

from aelab.system.startup import buffered_stderr

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
with buffered_stderr():
    import train

    import aelab.training.run  # noqa: F401  (and with it all that a run needs)
    from aelab.cli import run as run_script

_IMPORTED_IN = os.getpid()


class Training:
    """A process that runs scripts/train.py; it has the methods of `Popen`.

    Args:
      *arguments: its command line's.
      prepare: picklable function, called before it begins.
      environment: variables to be set.
    """

    def __init__(self, *arguments, prepare=None, environment=None):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._files = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115
        names = [file.name for file in self._files]
        self._process = context.Process(
            target=_run,
            args=(names, arguments, prepare, environment or {}),
            daemon=True,
        )
        # For the server, which begins with the first process.
        with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
            self._process.start()

    @property
    def pid(self):
        return self._process.pid

    @property
    def returncode(self):
        """None while it runs; -n if signal n ended it."""
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def communicate(self, timeout):
        """Waits for the end; returns standard output and standard error."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("train.py", timeout)
        return [Path(file.name).read_text() for file in self._files]


def _run(names, arguments, prepare, environment):
    """Does in the forked process what Python does in a new one, then trains."""
    assert os.getpid() != _IMPORTED_IN, "the server has not imported this module"
    multiprocessing.set_start_method("fork", force=True)  # for the locks of tqdm
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, name in zip((1, 2), names, strict=True):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.update(environment)
    sys.argv = ["train.py", *arguments]
    if prepare:
        prepare()
    run_script(train.main)
