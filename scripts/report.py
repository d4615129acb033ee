#!/usr/bin/env python3
"""Writes one HTML page on runs and studies; it needs no server and no network.

scripts/report.py --run_dir=DIR[,DIR...] --output=FILE.html [--x_axis=epoch|step]
scripts/report.py runs/* --output=FILE.html [--curves=NAME,...]

The page has curves, pictures, evaluation metrics, and the differences between
configurations; of a study also its table and its picture. A run may still be training.
Needs matplotlib: pip install -c constraints.txt -e '.[report]'
"""

import os
from collections.abc import Sequence

from aelab.cli import CommandLine, run
from aelab.errors import UsageError
from aelab.system.console import say


def main(argv: Sequence[str]) -> None:
    """Parses the command line and writes the page."""
    cli = CommandLine(__doc__)
    folders = "Folders of runs or studies, separated by commas; or without this flag."
    cli.add_path("run_dir", folders, "DIR[,DIR...]")
    cli.add_output("File to write.", "FILE.html")
    cli.add_choice("x_axis", "Horizontal axis of curves.", ("epoch", "step"))
    curves = "Runs whose curves are drawn, by name; empty = the best 18 by PSNR."
    cli.add_text("curves", curves, "NAME[,NAME...]")
    args = cli.parse(argv, inputs=True)
    run_dirs = [path for path in args.run_dir.split(",") if path]
    # runs/* also matches files: the logs of workers.
    run_dirs += [path for path in cli.inputs if not os.path.isfile(path)]
    if not run_dirs:
        raise UsageError("--run_dir is missing: give the folders of runs or studies")

    from aelab.apps.report import write_report

    run_dirs = [os.path.expanduser(path) for path in run_dirs]
    size = write_report(run_dirs, args.output, args.x_axis, args.curves, args.overwrite)
    say(f"{args.output}: {size:,} bytes")


if __name__ == "__main__":
    run(main)
