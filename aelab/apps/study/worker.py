"""A process that trains runs of a study, one after another.

TensorFlow starts once for all of them. Requests come on standard input and answers go
to standard output, one JSON object a line. What a run prints goes to its `console.txt`.

When standard input ends, so does the process: a run under way saves its state first.
"""

import contextlib
import gc
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import Any, TextIO

from aelab.cli.main import exit_code
from aelab.config import Config, is_function
from aelab.distributed.blocks import threads_per_op
from aelab.errors import BusyError
from aelab.system import signals, startup
from aelab.system.console import say

CONSOLE_TXT = "console.txt"
BUSY = 75  # the code of a run that another process writes; EX_TEMPFAIL of sysexits.h
_MAX_MESSAGE = 2**14  # bytes
_ANSWER_SECONDS = 0.5  # minimum time between two answers on progress


def main() -> None:
    """Serves the requests on standard input.

    A request is `{"action": "train" or "evaluate", "run_dir": ..., "config": ...}`. The
    answers to it are `{"step": ..., "steps": ...}` while it trains, and at its end
    `{"code": ..., "message": ...}`, an exit code as of a script.
    """
    # An interrupt while no run is under way needs no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.sched_setaffinity(0, [int(core) for core in sys.argv[1].split(",")])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    requests = _requests()
    is_started = False
    for request in iter(requests.get, None):
        config = Config(**request["config"])
        run_dir = request["run_dir"]
        try:
            os.makedirs(run_dir, exist_ok=True)
            console = open(os.path.join(run_dir, CONSOLE_TXT), "ab")  # noqa: SIM115
        except OSError as error:
            message = f"{run_dir} can't be written: {error}"
            _answer(answers, {"code": 1, "message": message})
            break
        with console, startup.redirect_fds((1, 2), console):
            if not is_started:
                threads = threads_per_op(config)
                startup.start_tensorflow(config.virtual_cpus, True, threads)
                # TensorFlow takes the functions of the next run for retraced ones.
                logging.getLogger("tensorflow").setLevel(logging.ERROR)
                is_started = True
            code, message = _serve(request["action"], config, run_dir, answers)
        _answer(answers, {"code": code, "message": message})
        if code not in (0, BUSY):  # for example no memory: the next run gets a process
            break
    os._exit(0)  # a shutdown of TensorFlow can take ten seconds


def _requests() -> "queue.SimpleQueue[Any]":
    """The requests on standard input; None is its end, which also stops a run."""
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        """Passes the requests on, until standard input ends."""
        for line in sys.stdin:
            requests.put(json.loads(line))
        requests.put(None)
        signals.stop(signal.SIGTERM)

    threading.Thread(target=read, daemon=True).start()
    return requests


def _answer(answers: TextIO, values: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        answers.write(json.dumps(values) + "\n")


def _serve(
    action: str, config: Config, run_dir: str, answers: TextIO
) -> tuple[int, str]:
    """Does what a request asks for; returns the exit code and the last message."""
    busy: list[BusyError] = []

    def work(_: object) -> None:
        """Does the action, and notes that the run is another process's."""
        try:
            {"train": _train, "evaluate": _evaluate}[action](config, run_dir, answers)
        except BusyError as error:
            busy.append(error)

    try:
        code = BUSY if (code := exit_code(work)) == 0 and busy else code
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    forget_run()
    return code, _last_line(os.path.join(run_dir, CONSOLE_TXT)) if code else ""


def forget_run() -> None:
    """Frees the graphs of the runs so far; names of layers are counted from 1 again.

    TensorFlow keeps the graph of each use of `tf.custom_gradient` for ever, in a
    registry that has no public way to remove it: 12 MB a run.
    """
    import keras
    from tensorflow.python.framework import ops

    keras.backend.clear_session()
    registry = ops.gradient_registry._registry
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]
    gc.collect()


def _train(config: Config, run_dir: str, answers: TextIO) -> None:
    from aelab.training.run import train_and_evaluate

    last = 0.0

    def report(step: int, steps: int) -> None:
        """Answers with the progress, now and then."""
        nonlocal last
        if time.monotonic() - last > _ANSWER_SECONDS:
            last = time.monotonic()
            _answer(answers, {"step": step, "steps": steps})

    train_and_evaluate(config, run_dir, report)


def _evaluate(config: Config, run_dir: str, answers: TextIO) -> None:
    from aelab.apps.evaluation import evaluate_run, table

    model = config.model if is_function(config.model) else ""
    say(table(evaluate_run(run_dir, model=model)))


def _last_line(path: str) -> str:
    """The last line of a text, without `error: `."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - _MAX_MESSAGE))
        lines = file.read().decode(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return last.removeprefix("error: ")


if __name__ == "__main__":
    main()
