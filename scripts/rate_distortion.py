#!/usr/bin/env python3
"""Compares the models of several runs with other codecs: bytes against quality.

scripts/rate_distortion.py RUN... --output=DIR [--rivals=false]

Compresses the evaluation images of the runs, which must be the same images, and writes
rate_distortion.json and rate_distortion.png. The other codecs are principal components
with the same entropy coder, and PNG, JPEG, WebP and AVIF, each with one file per image
and with one mosaic of all images.
Needs pip install -c constraints.txt -e '.[codec,eval,report]'
"""

from collections.abc import Sequence

from aelab.cli import CommandLine, run
from aelab.errors import UsageError
from aelab.runs.start import start_for_runs
from aelab.system.console import output


def main(argv: Sequence[str]) -> None:
    """Parses the command line, measures and prints the table."""
    cli = CommandLine(__doc__)
    cli.add_run(run_dir=False)
    cli.add_output("Folder to write to.", "DIR")
    cli.add_path("data_dir", "Where the data files are now.", "DIR")
    cli.add_choice(
        "rivals", "Whether to measure other codecs as well.", ("true", "false")
    )
    args = cli.parse(argv, inputs=True)
    if not cli.inputs:
        raise UsageError("RUN is missing: give the folders of one or more runs")
    start_for_runs(*cli.inputs, model=args.model)

    from aelab.apps.compression.rate_distortion import rate_distortion, table

    points = rate_distortion(
        cli.inputs,
        args.output,
        args.checkpoint,
        args.data_dir,
        args.rivals == "true",
        args.model,
        args.overwrite,
    )
    output(table(points))


if __name__ == "__main__":
    run(main)
