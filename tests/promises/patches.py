"""Changes to a training process, to be made before it begins: see `Forked`."""

import builtins
import functools
import io
import os
import time

from aelab.summaries import metrics_log
from aelab.system import files
from aelab.training import loops, objective, step
from aelab.training.trainer import Trainer


def stop_at(moment, *signals):
    """Sends this process the signals at one of `MOMENTS`, half a second apart."""
    MOMENTS[moment](functools.partial(_send, signals))


def _send(signals):
    for number in signals:
        os.kill(os.getpid(), number)
        time.sleep(0.5)


def _within_file(pattern, occurrence=1):
    """When half of the n-th file is written whose path contains `pattern`."""

    def install(stop):
        paths = []

        class Half(io.FileIO):
            def write(self, content):
                super().write(content[: len(content) // 2])
                stop()
                return len(content) // 2 + super().write(content[len(content) // 2 :])

        def open_half(path, mode="r", **options):
            if mode == "wb" and pattern in path:
                paths.append(path)
                if len(paths) == occurrence:
                    return Half(path, "wb")
            return builtins.open(path, mode, **options)

        files.open = open_half

    return install


def _before(owner, name, occurrence=1):
    """Before a method is called for the n-th time."""

    def install(stop):
        function, calls = getattr(owner, name), []

        def call(*arguments, **options):
            calls.append(name)
            if len(calls) == occurrence:
                stop()
            return function(*arguments, **options)

        setattr(owner, name, call)

    return install


def _within_line(stop):
    """When half of a line of metrics.jsonl is written."""

    def write_half(self, split, step, epoch, values):
        self._file.write(b'{"step": 1, "split"')
        stop()

    metrics_log.MetricsLog.write = write_half


def _before_old_checkpoints_are_removed(stop):
    """When a new checkpoint has its name, and the one that it replaces is there."""
    remove = os.remove

    def remove_late(path):
        if os.path.basename(path).startswith("step-"):
            stop()
        remove(path)

    os.remove = remove_late


def observe(path):
    """Writes what a worker compiles, and its rows of the first three batches.

    That is `train` or `eval` into `PATH-traces` each time that training or evaluation
    is traced, and the corrupted images into `PATH-rows-BATCH`.
    """
    gradients, metrics = step.loss_gradient, objective.image_metrics
    make_dataset = loops.make_train_dataset

    def write_trace(name):
        with open(f"{path}-traces", "a") as file:
            file.write(f"{name}\n")

    def traced_gradients(*arguments):
        write_trace("train")
        return gradients(*arguments)

    def traced_metrics(clean, output, training=False):
        if not training:
            write_trace("eval")
        return metrics(clean, output, training)

    def written_dataset(*arguments):
        dataset = make_dataset(*arguments)
        for number, (corrupted, _) in enumerate(dataset.take(3)):
            corrupted.numpy().tofile(f"{path}-rows-{number}")
        return dataset

    step.loss_gradient, objective.image_metrics = traced_gradients, traced_metrics
    loops.make_train_dataset = written_dataset


MOMENTS = {
    "configuration": _within_file("config.json"),
    "first checkpoint": _within_file("step-00000000.npz"),
    "compiled": _before(Trainer, "_evaluate_if_due"),
    "line": _within_line,
    "picture": _within_file("panel-", 2),
    "evaluation": _before(Trainer, "_after_eval_batch", 8),
    "between best and latest": _before(Trainer, "_save_latest", 2),
    "latest checkpoint": _within_file(os.path.join("latest", ".tmp-"), 3),
    "renamed, old ones not removed": _before_old_checkpoints_are_removed,
    "projector": _within_file("code.tsv"),
    "second advance": _before(Trainer, "_advance", 2),
    "sixth advance": _before(Trainer, "_advance", 6),
}
