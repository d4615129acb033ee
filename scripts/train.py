#!/usr/bin/env python3
"""Trains an autoencoder, or goes on with a run that was stopped.

scripts/train.py --flagfile=configs/NAME.flags --run_dir=DIR [--FLAG=VALUE ...]
"""

from collections.abc import Sequence

from aelab.cli import flags


def main(argv: Sequence[str]) -> None:
    """Parses the command line and trains."""
    command_line = flags.CommandLine(__doc__)
    command_line.add_path("run_dir", "Folder of the run.", "DIR", required=True)
    command_line.add_config()
    values = command_line.parse(argv)
    config = command_line.config()

    from aelab.distributed.blocks import threads_per_op
    from aelab.system.startup import start_tensorflow

    # Several workers must find each other first, so they find their devices later.
    is_alone = config.strategy != "multi_worker"
    threads = threads_per_op(config) if is_alone else 0
    start_tensorflow(config.virtual_cpus, is_alone, threads)

    from aelab.training.run import train_and_evaluate

    train_and_evaluate(config, values.run_dir)


if __name__ == "__main__":
    flags.run(main)
