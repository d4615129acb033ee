#!/usr/bin/env python3
"""Writes one HTML page on one or several runs; it needs no server and no network.

scripts/report.py --run_dir=DIR[,DIR...] --output=FILE.html [--x_axis=epoch|step]
scripts/report.py runs/* --output=FILE.html

The page has curves, pictures, evaluation metrics, and the differences between
configurations. A run may still be training.
Needs matplotlib: pip install -c constraints.txt -e '.[report]'
"""

import os
from collections.abc import Sequence

from aelab.cli import CommandLine, run
from aelab.errors import UsageError


def main(argv: Sequence[str]) -> None:
    """Parses the command line and writes the page."""
    command_line = CommandLine(__doc__)
    folders = "Folders of runs, separated by commas; or give them without this flag."
    command_line.add_text("run_dir", folders, "DIR[,DIR...]")
    command_line.add_path("output", "File to write.", "FILE.html", required=True)
    command_line.add_choice("x_axis", "Horizontal axis of curves.", ("epoch", "step"))
    values = command_line.parse(argv, inputs=True)
    run_dirs = [path for path in values.run_dir.split(",") if path]
    # runs/* also matches files: the logs of workers.
    run_dirs += [path for path in command_line.inputs if not os.path.isfile(path)]
    if not run_dirs:
        raise UsageError("--run_dir is missing: give the folders of one or more runs")

    from aelab.apps.report import write_report

    run_dirs = [os.path.expanduser(path) for path in run_dirs]
    size = write_report(run_dirs, values.output, values.x_axis)
    print(f"{values.output}: {size:,} bytes")


if __name__ == "__main__":
    run(main)
