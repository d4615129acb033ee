"""Code in new processes, and scripts in processes forked with TensorFlow imported.

A process that starts afresh needs four seconds of processor time to import TensorFlow.
For `Forked`, one server does the imports, and forks a process for each run of a script.
"""

import contextlib
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]


def path_of(name):
    """The path of NAME.py, a script of scripts/ or tools/."""
    path = ROOT / "scripts" / f"{name}.py"
    return path if path.exists() else ROOT / "tools" / f"{name}.py"


def run_code(code, env=None):
    """Runs Python code in a new process, and returns the finished process."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)


@contextlib.contextmanager
def ready(code, *arguments):
    """A process of Python code that has printed "ready". It is killed at the end."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def lose_output(is_pipe):
    """Makes standard output a closed pipe or a full disk, and closes standard error."""
    read, write = os.pipe()
    os.close(read)
    os.dup2(write if is_pipe else os.open("/dev/full", os.O_WRONLY), 1)
    os.close(2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), None


class Forked:
    """A process that runs a script; it has the methods of `subprocess.Popen`.

    Args:
      name: the script's, without `.py`.
      *arguments: its command line's.
      prepare: function that can be pickled, called in the process before the script.
      environment: variables to be set. What is imported already does not see them.
    """

    def __init__(self, name, *arguments, prepare=None, environment=None):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["preloaded"])
        self.args = [str(path_of(name)), *map(str, arguments)]
        self._folder = Path(tempfile.mkdtemp())
        self._files = [self._folder / "stdout", self._folder / "stderr"]
        self._process = context.Process(
            target=_run,
            args=(self.args, self._files, prepare, environment or {}),
            daemon=True,
        )
        # For the server, which starts with the first process.
        with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
            self._process.start()

    @property
    def pid(self):
        """The number of the process."""
        return self._process.pid

    @property
    def returncode(self):
        """The exit code: -n if signal n ended the process, None while it runs."""
        return self._process.exitcode

    def poll(self):
        """The same as `returncode`."""
        return self.returncode

    def send_signal(self, number):
        """Sends a signal to the process, which must be running."""
        os.kill(self.pid, number)

    def kill(self):
        """Ends the process if it is running."""
        self._process.kill()

    def communicate(self, timeout):
        """Waits for the end; returns standard output and standard error."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        texts = [file.read_text() for file in self._files]
        shutil.rmtree(self._folder)
        return texts


def _run(args, files, prepare, environment):
    """Runs a script in the forked process, as Python would in a new one."""
    assert "preloaded" in sys.modules, "the server has not imported it"
    multiprocessing.set_start_method("fork", force=True)  # for the locks of tqdm
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, file in zip((1, 2), files, strict=True):
        with file.open("ab") as opened:
            os.dup2(opened.fileno(), descriptor)
    os.environ.update(environment)
    sys.argv = args
    if prepare:
        prepare()
    runpy.run_path(args[0], run_name="__main__")
