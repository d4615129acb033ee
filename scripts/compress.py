#!/usr/bin/env python3
"""Compresses images into one file, with the model of a run.

scripts/compress.py --run_dir=DIR INPUT... --output=FILE.aelab

INPUT: IDX files of images, gzipped or not, and pictures (PNG, JPEG, BMP, GIF, WebP) of
the size and kind that the model takes. The run is one of --model=codec or
--model=dense. Needs constriction: pip install -c constraints.txt -e '.[codec]'
"""

from collections.abc import Sequence

from aelab.cli import flags
from aelab.errors import UsageError


def main(argv: Sequence[str]) -> None:
    """Parses the command line and compresses the files."""
    command_line = flags.CommandLine(__doc__)
    command_line.add_path("run_dir", "Folder of the run.", "DIR", required=True)
    command_line.add_path("output", "File to write.", "FILE.aelab", required=True)
    command_line.add_choice("checkpoint", "Which weights.", ("best", "latest"))
    command_line.add_path(
        "data_dir",
        "Where the run's data files are now: probabilities are learned from its "
        "training images when a checkpoint is used for the first time.",
        "DIR",
    )
    command_line.add_number(
        "quantiser_step",
        "What a code of --model=dense is rounded to multiples of; 0 = the coarsest "
        "that costs 0.1 dB.",
        0.0,
    )
    values = command_line.parse(argv, inputs=True)
    if not command_line.inputs:
        raise UsageError(
            "INPUT is missing: an IDX file or picture, as many as you like"
        )

    from aelab.system.startup import start_tensorflow

    start_tensorflow()

    from aelab.apps.compression import compress

    done = compress(
        values.run_dir,
        command_line.inputs,
        values.output,
        values.checkpoint,
        values.data_dir,
        values.quantiser_step,
    )
    print(f"{values.output}: {done.images:,} images, {done.file_bytes:,} bytes")
    if done.images:
        each, ideal = done.file_bytes / done.images, done.ideal_bytes / done.images
        print(
            f"{each:.2f} bytes an image ({ideal:.2f} by the probabilities), "
            f"{done.pixel_bytes / done.file_bytes:.1f} times smaller than their pixels"
        )


if __name__ == "__main__":
    flags.run(main)
