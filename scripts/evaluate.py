#!/usr/bin/env python3
"""Evaluates a run on the images that its model never saw, beside what it must beat.

scripts/evaluate.py --run_dir=DIR [--checkpoint=best|latest] [--data_dir=DIR]

Prints a table; writes evaluation.json and pictures into the run directory.
"""

from collections.abc import Sequence

from aelab.cli import flags
from aelab.runs.directory import RunDirectory

_NOISE_STDDEVS = tuple(tenths / 10 for tenths in range(1, 11))


def main(argv: Sequence[str]) -> None:
    """Parses the command line, evaluates and prints the table."""
    command_line = flags.CommandLine(__doc__)
    command_line.add_path("run_dir", "Folder of the run.", "DIR", required=True)
    command_line.add_choice("checkpoint", "Which weights.", ("best", "latest"))
    command_line.add_path("data_dir", "Where the run's data files are now.", "DIR")
    command_line.add_levels(
        "noise_stddevs",
        "Evaluate a model with Gaussian noise at these levels as well; empty = do not.",
        _NOISE_STDDEVS,
    )
    command_line.add_choice(
        "floors",
        "Whether to compute what the model must beat (scikit-image, scikit-learn).",
        ("true", "false"),
    )
    values = command_line.parse(argv)
    RunDirectory(values.run_dir).read_config()  # no run is answered at once

    from aelab.system.startup import start_tensorflow

    start_tensorflow()

    from aelab.apps.evaluation import evaluate_run, table

    result = evaluate_run(
        values.run_dir,
        values.checkpoint,
        values.data_dir,
        values.noise_stddevs,
        values.floors == "true",
    )
    print(table(result))


if __name__ == "__main__":
    flags.run(main)
