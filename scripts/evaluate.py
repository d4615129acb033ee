#!/usr/bin/env python3
"""Evaluates a run on the images that its model never saw; writes evaluation.json.

scripts/evaluate.py --run_dir=DIR [--checkpoint=best|latest] [--data_dir=DIR]
"""

from collections.abc import Sequence

from aelab import flags


def main(argv: Sequence[str]) -> None:
    """Parses the command line, evaluates and prints the table."""
    command_line = flags.CommandLine(__doc__)
    command_line.add_path("run_dir", "Folder of the run.", "DIR", required=True)
    command_line.add_choice("checkpoint", "Which weights.", ("best", "latest"))
    command_line.add_path("data_dir", "Where the run's data files are now.", "DIR")
    values = command_line.parse(argv)

    from aelab.startup import start_tensorflow

    start_tensorflow()

    from aelab.evaluation import evaluate_run, table

    result = evaluate_run(values.run_dir, values.checkpoint, values.data_dir)
    print(table(result))


if __name__ == "__main__":
    flags.run(main)
