#!/usr/bin/env python3
"""Bytes against quality: the models of some runs beside other codecs.

scripts/rate_distortion.py RUN... --output=DIR [--rivals=false]

Compresses the evaluation images of the runs, which must be the same ones, and writes
rate_distortion.json and rate_distortion.png. Rivals are principal components by the
same entropy coder, and PNG, JPEG, WebP and AVIF, each as one file an image and as one
mosaic of all. Needs pip install -c constraints.txt -e '.[codec,eval,report]'
"""

from collections.abc import Sequence

from aelab.cli import flags
from aelab.errors import UsageError


def main(argv: Sequence[str]) -> None:
    """Parses the command line, measures and prints the table."""
    command_line = flags.CommandLine(__doc__)
    command_line.add_path("output", "Folder to write to.", "DIR", required=True)
    command_line.add_choice("checkpoint", "Which weights.", ("best", "latest"))
    command_line.add_path("data_dir", "Where the data files are now.", "DIR")
    command_line.add_choice(
        "rivals", "Whether to measure other codecs as well.", ("true", "false")
    )
    values = command_line.parse(argv, inputs=True)
    if not command_line.inputs:
        raise UsageError("RUN is missing: the folder of a run, as many as you like")

    from aelab.system.startup import start_tensorflow

    start_tensorflow()

    from aelab.apps.compression.rate_distortion import rate_distortion, table

    points = rate_distortion(
        command_line.inputs,
        values.output,
        values.checkpoint,
        values.data_dir,
        values.rivals == "true",
    )
    print(table(points))


if __name__ == "__main__":
    flags.run(main)
