#!/usr/bin/env python3
"""Times the training loop on one device and on two, by precision, with XLA and not.

scripts/compare_devices.py [--flagfile=configs/NAME.flags] [--rounds=3] [--seconds=5]
    [--precisions=float32,mixed_bfloat16] [--FLAG=VALUE ...]

Devices are parts of the CPU; GPUs are left alone. Each line is a process of its own;
they take turns, and the table has the medians. "No all-reduce" leaves the
gradients of the replicas apart, which trains nothing of use: what it saves is the share
of the all-reduce.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from aelab.cli import flags
from aelab.config import Config
from aelab.errors import TrainingError, UsageError

_ONE = {"strategy": "single", "devices": "", "virtual_cpus": 1}
_TWO = {"strategy": "mirrored", "devices": "", "virtual_cpus": 2}
_VARIANTS: dict[str, dict[str, Any]] = {
    "1 device": _ONE | {"jit_compile": "false"},
    "1 device, XLA": _ONE | {"jit_compile": "true"},
    "2 devices": _TWO | {"jit_compile": "false"},
    "2 devices, XLA": _TWO | {"jit_compile": "true"},
    "2 devices, no all-reduce": _TWO | {"jit_compile": "false"},
}
_STEPS_PER_CALL = 5


def measure(config: Config, all_reduce: bool, seconds: float) -> float:
    """Milliseconds a step of the whole loop, input included; the median of calls."""
    from aelab.distributed.blocks import threads_per_op
    from aelab.system.startup import start_tensorflow

    threads = threads_per_op(config)
    start_tensorflow(config.virtual_cpus, threads_per_op=threads)

    import tensorflow as tf

    from aelab.data.pipeline import distribute, make_train_dataset
    from aelab.data.sources import load_split
    from aelab.distributed.devices import Distribution
    from aelab.training import step as steps
    from aelab.training.state import TrainState

    distribution = Distribution(config)
    source = load_split(config, "train")
    state = TrainState(config, source.image_shape, 1000, distribution.strategy)
    batches = iter(
        distribute(
            distribution.strategy,
            lambda share: make_train_dataset(source, config, 0, share),
        )
    )
    if not all_reduce:
        steps.sum_over_replicas = lambda tensors: tensors  # type: ignore[assignment]
    train_loop = steps.build_train_loop(
        state, config, distribution.use_xla, distribution.blocks
    )
    count = tf.constant(_STEPS_PER_CALL, tf.int64)
    train_loop(batches, count)
    times: list[float] = []
    first = time.monotonic()
    while time.monotonic() - first < seconds or len(times) < 3:
        started = time.monotonic()
        if not train_loop(batches, count):
            raise TrainingError("a loss or gradient is not finite")
        times.append((time.monotonic() - started) / _STEPS_PER_CALL * 1e3)
    return statistics.median(times)


def measure_apart(config: Config, all_reduce: bool, seconds: float) -> float:
    """`measure` in a process of its own."""
    job = json.dumps([dataclasses.asdict(config), all_reduce, seconds])
    command = [sys.executable, __file__, "--job", job]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise TrainingError(found.stderr.strip())
    return float(found.stdout.split()[-1])


def main(argv: Sequence[str]) -> None:
    """Parses the command line, measures and prints the table."""
    if argv[1:2] == ["--job"]:
        fields, all_reduce, seconds = json.loads(argv[2])
        print(measure(Config(**fields), all_reduce, seconds))
        return
    command_line = flags.CommandLine(__doc__)
    command_line.add_text("rounds", "How often each line is measured.", "N", "3")
    command_line.add_text("seconds", "For how long each time.", "S", "5")
    command_line.add_text("precisions", "Which ones.", "P", "float32,mixed_bfloat16")
    command_line.add_config()
    values = command_line.parse(argv)
    base = command_line.config()
    if not values.rounds.isdecimal() or not values.seconds.isdecimal():
        raise UsageError("--rounds and --seconds must be whole numbers")
    lines = {
        (precision, name): dataclasses.replace(base, precision=precision, **fields)
        for precision in values.precisions.split(",")
        for name, fields in _VARIANTS.items()
    }
    times: dict[tuple[str, str], list[float]] = {line: [] for line in lines}
    for number in range(int(values.rounds)):
        for line, config in lines.items():
            all_reduce = "no all-reduce" not in line[1]
            times[line].append(measure_apart(config, all_reduce, int(values.seconds)))
            print(f"round {number + 1}: {', '.join(line)}: {times[line][-1]:.2f} ms")
    print(
        f"\n{base.model}, batch {base.batch_size}\n\n"
        "| precision | devices | ms a step | spread | steps/s | images/s |\n"
        "|---|---|---|---|---|---|"
    )
    for (precision, name), row in times.items():
        middle = statistics.median(row)
        print(
            f"| {precision} | {name} | {middle:.2f} | {min(row):.2f} to {max(row):.2f} "
            f"| {1e3 / middle:,.1f} | {1e3 / middle * base.batch_size:,.0f} |"
        )


if __name__ == "__main__":
    flags.run(main)
