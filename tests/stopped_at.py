"""scripts/train.py in a process that sends itself a real signal at a given moment.

tests/stopped_at.py MOMENT SIGNALS [--FLAG=VALUE ...]

SIGNALS are names with commas between, sent a tenth of a second apart.
"""

import builtins
import io
import os
import signal
import sys
import time

import train  # scripts/train.py

from aelab import flags
from aelab.startup import held_back_stderr

with held_back_stderr():
    from aelab import events, summaries, trainer, writing


def stop():
    """Sends the signals; SIGKILL does not come back."""
    for name in sys.argv[2].split(","):
        os.kill(os.getpid(), signal.Signals[name])
        time.sleep(0.1)


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


def around(owner, name, occurrence=1, before=True):
    """Before or after a function is called for the n-th time."""
    function, calls = getattr(owner, name), []

    def call(*arguments, **options):
        calls.append(name)
        if before and len(calls) == occurrence:
            stop()
        result = function(*arguments, **options)
        if not before and len(calls) == occurrence:
            stop()
        return result

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
    "first figures": lambda: around(TRAINER, "_write_training_line_if_due"),
    "compiled": lambda: around(TRAINER, "_evaluate_if_due"),
    "step": lambda: around(TRAINER, "_advance", 25, before=False),
    "line": in_the_middle_of_a_line,
    "event file": lambda: around(events.EventFile, "_check_growth", 9),
    "picture": lambda: in_the_middle_of("panel-", 2),
    "evaluation": lambda: around(TRAINER, "_after_eval_batch", 8),
    "best checkpoint": lambda: in_the_middle_of(os.path.join("best", ".tmp-"), 2),
    "between best and latest": lambda: around(TRAINER, "_save_latest", 2),
    "latest checkpoint": lambda: in_the_middle_of(os.path.join("latest", ".tmp-"), 3),
    "renamed, old ones not removed": when_old_checkpoints_go,
}


if __name__ == "__main__":
    MOMENTS[sys.argv[1]]()
    flags.run(lambda argv: train.main([argv[0], *argv[3:]]))
