#!/usr/bin/env python3
"""Writes one HTML page on one or several runs, to open from a file on any screen.

scripts/report.py --run_dir=DIR[,DIR...] --output=FILE.html [--x_axis=epoch|step]
scripts/report.py runs/* --output=FILE.html

It has curves, pictures, evaluation figures, and what differs between configurations. A
run may still be training. Needs matplotlib: pip install -e '.[report]'.
"""

import os
from collections.abc import Sequence

from aelab.cli import flags
from aelab.errors import UsageError


def main(argv: Sequence[str]) -> None:
    """Parses the command line and writes the page."""
    command_line = flags.CommandLine(__doc__)
    folders = "Folders of runs, with commas between; or name them without this flag."
    command_line.add_text("run_dir", folders, "DIR[,DIR...]")
    command_line.add_path("output", "File to write.", "FILE.html", required=True)
    axes = ("epoch", "step")
    command_line.add_choice("x_axis", "What curves go over.", axes)
    values = command_line.parse(argv, inputs=True)
    run_dirs = [path for path in values.run_dir.split(",") if path]
    # runs/* has files as well: the logs of workers.
    run_dirs += [path for path in command_line.inputs if not os.path.isfile(path)]
    if not run_dirs:
        raise UsageError("--run_dir is missing, or the folder of a run without it")

    from aelab.apps.report import write_report

    run_dirs = [os.path.expanduser(path) for path in run_dirs]
    size = write_report(run_dirs, values.output, values.x_axis)
    print(f"{values.output}: {size:,} bytes")


if __name__ == "__main__":
    flags.run(main)
