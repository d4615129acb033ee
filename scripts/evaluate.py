#!/usr/bin/env python3
"""Evaluates a run on held-out images, next to simple baselines.

scripts/evaluate.py --run_dir=DIR [--checkpoint=best|latest] [--data_dir=DIR]

Prints a table. Writes evaluation.json and pictures into the run directory.
"""

from collections.abc import Sequence

from aelab.cli import CommandLine, run
from aelab.runs.start import start_for_runs

_NOISE_STDDEVS = tuple(tenths / 10 for tenths in range(1, 11))


def main(argv: Sequence[str]) -> None:
    """Parses the command line, evaluates and prints the table."""
    command_line = CommandLine(__doc__)
    command_line.add_run()
    command_line.add_path("data_dir", "Where the run's data files are now.", "DIR")
    command_line.add_levels(
        "noise_stddevs",
        "Also evaluate a model for Gaussian noise at these levels; empty = do not.",
        _NOISE_STDDEVS,
    )
    command_line.add_choice(
        "floors",
        "Whether to compute the baselines (needs scikit-image and scikit-learn).",
        ("true", "false"),
    )
    values = command_line.parse(argv)
    start_for_runs(values.run_dir, model=values.model)

    from aelab.apps.evaluation import evaluate_run, table

    result = evaluate_run(
        values.run_dir,
        values.checkpoint,
        values.data_dir,
        values.noise_stddevs,
        values.floors == "true",
        values.model,
    )
    print(table(result))


if __name__ == "__main__":
    run(main)
