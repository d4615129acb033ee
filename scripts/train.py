#!/usr/bin/env python3
"""Trains an autoencoder, or resumes a run.

scripts/train.py --flagfile=configs/NAME.flags --run_dir=DIR [--FLAG=VALUE ...]
scripts/train.py --run_dir=DIR [--FLAG=VALUE ...]

A resumed run keeps its value of each flag that is not given.
"""

from collections.abc import Sequence

from aelab.cli import CommandLine, run
from aelab.distributed.blocks import threads_per_op
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory, check_model
from aelab.system import startup


def main(argv: Sequence[str]) -> None:
    """Parses the command line and trains."""
    cli = CommandLine(__doc__)
    cli.add_path("run_dir", "Folder of the run.", "DIR", required=True)
    cli.add_config()
    args = cli.parse(argv)
    directory = RunDirectory(args.run_dir)
    base = None
    if directory.has_config():
        base = directory.read_config()
        # What failed before its first checkpoint is replaced by what is given now.
        if not directory.has_results() and cli.given_fields():
            base = None
    if base:
        given = args.model if args["model"].present else ""
        check_model(base.model, given, f"--run_dir={args.run_dir}")
        is_given = {name: args[name].present for name in ("epochs", "train_steps")}
        if base.train_steps and is_given == {"epochs": True, "train_steps": False}:
            raise UsageError(
                f"--epochs={args.epochs} has no effect on this run, which counts "
                f"steps: give --train_steps, which is {base.train_steps}"
            )
    config = cli.config(base)

    # Workers must connect before TensorFlow initializes its devices.
    is_only_worker = config.strategy != "multi_worker"
    threads = threads_per_op(config) if is_only_worker else 0
    startup.start_tensorflow(config.virtual_cpus, is_only_worker, threads)

    from aelab.training.run import train_and_evaluate

    train_and_evaluate(config, args.run_dir)


if __name__ == "__main__":
    run(main)
