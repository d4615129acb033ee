#!/usr/bin/env python3
"""Exports a run's model: a .keras file for Keras alone, or a TensorFlow SavedModel.

scripts/export.py --run_dir=DIR --output=FILE.keras [--checkpoint=best|latest]
scripts/export.py --run_dir=DIR --output=DIR --format=saved_model [...]

A SavedModel takes images in batches of any size. Those of convolutional networks take
images of any height and width that their poolings divide.
"""

from collections.abc import Sequence

from aelab.apps.export import check_output
from aelab.cli import flags
from aelab.runs.directory import RunDirectory


def main(argv: Sequence[str]) -> None:
    """Parses the command line and exports."""
    command_line = flags.CommandLine(__doc__)
    command_line.add_path("run_dir", "Folder of the run.", "DIR", required=True)
    command_line.add_path(
        "output", "File or folder to write.", "FILE.keras", required=True
    )
    command_line.add_choice("checkpoint", "Which weights.", ("best", "latest"))
    command_line.add_choice("format", "What to write.", ("keras", "saved_model"))
    values = command_line.parse(argv)
    # What needs no TensorFlow is answered at once.
    RunDirectory(values.run_dir).read_config()
    check_output(values.output, values.format)

    from aelab.system.startup import start_tensorflow

    start_tensorflow()

    from aelab.apps.export import export

    step = export(values.run_dir, values.output, values.checkpoint, values.format)
    print(f"{values.output}: the {values.checkpoint} checkpoint, step {step}")


if __name__ == "__main__":
    flags.run(main)
