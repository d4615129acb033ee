#!/usr/bin/env python3
"""Exports a run's model as a .keras file or as a TensorFlow SavedModel.

scripts/export.py --run_dir=DIR --output=FILE.keras [--checkpoint=best|latest]
scripts/export.py --run_dir=DIR --output=DIR --format=saved_model [...]

Both open without aelab and take batches of any size. The SavedModel of a convolutional
network takes images of any height and width that its poolings divide, and so does the
.keras file of a network that was trained with --whole_pictures.
"""

from collections.abc import Sequence

from aelab.apps.export import check_output
from aelab.cli import CommandLine, run
from aelab.runs.start import start_for_runs
from aelab.system.console import say


def main(argv: Sequence[str]) -> None:
    """Parses the command line and exports."""
    cli = CommandLine(__doc__)
    cli.add_run()
    cli.add_output("File or folder to write.", "FILE.keras")
    cli.add_choice("format", "Format to write.", ("keras", "saved_model"))
    args = cli.parse(argv)
    check_output(args.output, args.format, args.overwrite)
    start_for_runs(args.run_dir, model=args.model)

    from aelab.apps.export import export

    step = export(
        args.run_dir,
        args.output,
        args.checkpoint,
        args.format,
        args.model,
        args.overwrite,
    )
    say(f"{args.output}: the {args.checkpoint} checkpoint, step {step}")


if __name__ == "__main__":
    run(main)
