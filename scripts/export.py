#!/usr/bin/env python3
"""Exports a run's model as a .keras file, which opens with Keras alone.

scripts/export.py --run_dir=DIR --output=FILE.keras [--checkpoint=best|latest]
"""

from collections.abc import Sequence

from aelab import flags


def main(argv: Sequence[str]) -> None:
    """Parses the command line and exports."""
    command_line = flags.CommandLine(__doc__)
    command_line.add_path("run_dir", "Folder of the run.", "DIR", required=True)
    command_line.add_path("output", "File to write.", "FILE.keras", required=True)
    command_line.add_choice("checkpoint", "Which weights.", ("best", "latest"))
    values = command_line.parse(argv)

    from aelab.startup import start_tensorflow

    start_tensorflow()

    from aelab.trained import export

    step = export(values.run_dir, values.output, values.checkpoint)
    print(f"{values.output}: the {values.checkpoint} checkpoint, step {step}")


if __name__ == "__main__":
    flags.run(main)
