"""scripts/train.py in a process that sends itself a real signal at a given moment.

tests/stopped_at.py MOMENT SIGNALS [--FLAG=VALUE ...]

SIGNALS are names with commas between, sent half a second apart.
"""

import builtins
import io
import os
import signal
import sys
import time

import train  # scripts/train.py

from aelab.cli import run
from aelab.system.startup import buffered_stderr

with buffered_stderr():
    from aelab.summaries import summaries
    from aelab.system import files as writing
    from aelab.training import trainer


def stop():
    """Sends the signals; SIGKILL does not come back."""
    for name in sys.argv[2].split(","):
        os.kill(os.getpid(), signal.Signals[name])
        time.sleep(0.5)


def in_the_middle_of(pattern, occurrence=1):
    """When half of a file is written whose path ends in `pattern`."""
    seen = []

    class Half(io.FileIO):
        def write(self, content):
            super().write(content[: len(content) // 2])
            stop()
            return len(content) // 2 + super().write(content[len(content) // 2 :])

    def open_half(path, mode="r", **options):
        if mode == "wb" and pattern in path:
            seen.append(path)
            if len(seen) == occurrence:
                return Half(path, "wb")
        return builtins.open(path, mode, **options)

    writing.open = open_half


def before(owner, name, occurrence=1):
    """Before a function is called for the n-th time."""
    function, calls = getattr(owner, name), []

    def call(*arguments, **options):
        calls.append(name)
        if len(calls) == occurrence:
            stop()
        return function(*arguments, **options)

    setattr(owner, name, call)


def in_the_middle_of_a_line():
    """When half of a line of metrics.jsonl is written."""

    def write_half(self, line):
        self._metrics.write(line[: len(line) // 2])
        stop()

    summaries.Summaries._write_line = write_half


def when_old_checkpoints_go():
    """When a new checkpoint has its name, and those that it replaces are there yet."""
    remove = os.remove

    def remove_late(path):
        if os.path.basename(path).startswith("step-"):
            stop()
        remove(path)

    os.remove = remove_late


TRAINER = trainer.Trainer
MOMENTS = {
    "configuration": lambda: in_the_middle_of("config.json"),
    "first checkpoint": lambda: in_the_middle_of("step-00000000.npz"),
    "compiled": lambda: before(TRAINER, "_evaluate_if_due"),
    "line": in_the_middle_of_a_line,
    "picture": lambda: in_the_middle_of("panel-", 2),
    "evaluation": lambda: before(TRAINER, "_after_eval_batch", 8),
    "between best and latest": lambda: before(TRAINER, "_save_latest", 2),
    "latest checkpoint": lambda: in_the_middle_of(os.path.join("latest", ".tmp-"), 3),
    "renamed, old ones not removed": when_old_checkpoints_go,
    "projector": lambda: in_the_middle_of("code.tsv"),
}


if __name__ == "__main__":
    MOMENTS[sys.argv[1]]()
    run(lambda argv: train.main([argv[0], *argv[3:]]))
