#!/usr/bin/env python3
"""Compresses images into one file with the model of a run.

scripts/compress.py --run_dir=DIR INPUT... --output=FILE.aelab

INPUT: IDX files of images, gzipped or not, and pictures (PNG, JPEG, BMP, TIFF, GIF,
WebP) of the size and kind that the model takes. The run must be of --model=codec or
--model=dense. Needs constriction: pip install -c constraints.txt -e '.[codec]'
"""

from collections.abc import Sequence

from aelab.cli import CommandLine, run
from aelab.errors import UsageError
from aelab.runs.start import start_for_runs
from aelab.system.console import say


def main(argv: Sequence[str]) -> None:
    """Parses the command line and compresses the files."""
    cli = CommandLine(__doc__)
    cli.add_run()
    cli.add_output("File to write.", "FILE.aelab")
    cli.add_path(
        "data_dir",
        "Where the run's data files are now. The first use of a checkpoint fits "
        "probabilities to the run's training images.",
        "DIR",
    )
    cli.add_number(
        "quantiser_step",
        "Round a code of --model=dense to multiples of this; 0 = the coarsest step "
        "that costs 0.1 dB.",
        0.0,
    )
    args = cli.parse(argv, inputs=True)
    if not cli.inputs:
        raise UsageError("INPUT is missing: give one or more IDX files or pictures")
    start_for_runs(args.run_dir, model=args.model)

    from aelab.apps.compression import compress

    done = compress(
        args.run_dir,
        cli.inputs,
        args.output,
        args.checkpoint,
        args.data_dir,
        args.quantiser_step,
        args.model,
        args.overwrite,
    )
    say(f"{args.output}: {done.images:,} images, {done.file_bytes:,} bytes")
    if done.images:
        size, ideal = done.file_bytes / done.images, done.ideal_bytes / done.images
        say(
            f"{size:.2f} bytes per image ({ideal:.2f} by the probabilities), "
            f"{done.pixel_bytes / done.file_bytes:.1f} times smaller than their pixels"
        )


if __name__ == "__main__":
    run(main)
