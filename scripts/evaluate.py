#!/usr/bin/env python3
"""Evaluates a run on held-out images, next to simple baselines.

scripts/evaluate.py --run_dir=DIR [--checkpoint=best|latest] [--data_dir=DIR]
                    [--split=test|validation]

Prints a table. Writes evaluation.json and pictures into the run directory.
"""

from collections.abc import Sequence

from aelab.cli import CommandLine, run
from aelab.runs.start import start_for_runs
from aelab.system.console import output


def main(argv: Sequence[str]) -> None:
    """Parses the command line, evaluates and prints the table."""
    cli = CommandLine(__doc__)
    cli.add_run()
    cli.add_path("data_dir", "Where the run's data files are now.", "DIR")
    cli.add_choice(
        "split",
        "Part of the data set; validation is what --validation_examples held out.",
        ("test", "validation"),
    )
    cli.add_levels(
        "noise_stddevs",
        "Also evaluate a model for Gaussian noise at these levels; empty = do not.",
        [tenths / 10 for tenths in range(1, 11)],
    )
    cli.add_choice(
        "floors",
        "Whether to compute the baselines (needs scikit-image and scikit-learn).",
        ("true", "false"),
    )
    args = cli.parse(argv)
    start_for_runs(args.run_dir, model=args.model)

    from aelab.apps.evaluation import evaluate_run, table

    result = evaluate_run(
        args.run_dir,
        args.checkpoint,
        args.data_dir,
        args.noise_stddevs,
        args.floors == "true",
        args.model,
        args.split,
    )
    output(table(result))


if __name__ == "__main__":
    run(main)
