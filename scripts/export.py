#!/usr/bin/env python3
"""Exports a run's model as a .keras file or as a TensorFlow SavedModel.

scripts/export.py --run_dir=DIR --output=FILE.keras [--checkpoint=best|latest]
scripts/export.py --run_dir=DIR --output=DIR --format=saved_model [...]

Both open without aelab. A SavedModel takes batches of any size; one of a
convolutional network takes images of any height and width that its poolings divide.
"""

from collections.abc import Sequence

from aelab.apps.export import check_output
from aelab.cli import CommandLine, run
from aelab.runs.start import start_for_runs


def main(argv: Sequence[str]) -> None:
    """Parses the command line and exports."""
    command_line = CommandLine(__doc__)
    command_line.add_run()
    command_line.add_path(
        "output", "File or folder to write.", "FILE.keras", required=True
    )
    command_line.add_choice("format", "Format to write.", ("keras", "saved_model"))
    values = command_line.parse(argv)
    check_output(values.output, values.format)
    start_for_runs(values.run_dir, model=values.model)

    from aelab.apps.export import export

    step = export(
        values.run_dir, values.output, values.checkpoint, values.format, values.model
    )
    print(f"{values.output}: the {values.checkpoint} checkpoint, step {step}")


if __name__ == "__main__":
    run(main)
