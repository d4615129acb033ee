#!/usr/bin/env python3
"""Removes noise from pictures of any size with the model of a run.

scripts/denoise.py --run_dir=DIR INPUT... --output=DIR [--checkpoint=best|latest]
                   [--compare] [--white_level=N] [--ensemble] [--precision=P]

INPUT: PNG, JPEG, WebP, BMP, TIFF and GIF files, or folders of such files, including
their sub-folders. Results get the same names in the output folder, which must be a
different folder. Size, format, alpha, and 8 or 16 bits are preserved; fewer than 8 bits
become 8, palettes become color, and GIF becomes PNG.
"""

from collections.abc import Sequence

from aelab.cli import CommandLine, run
from aelab.errors import UsageError
from aelab.runs.start import start_for_runs
from aelab.system.console import say


def main(argv: Sequence[str]) -> None:
    """Parses the command line and denoises the files."""
    cli = CommandLine(__doc__)
    cli.add_run()
    cli.add_output("Folder to write to.", "DIR")
    cli.add_switch(
        "compare", "Also write NAME-compare.png: before and after, side by side."
    )
    cli.add_override(
        "white_level",
        "The value that counts as 1 in 16-bit pictures, for example 4095 for 12 bits; "
        "0 = 65535. By default the run's value.",
    )
    cli.add_switch(
        "ensemble",
        "Average the outputs for all eight flips and rotations of a picture: a little "
        "better, and takes eight times as long.",
    )
    cli.add_override(
        "precision",
        "Arithmetic of the network, by default float32; mixed_bfloat16 is faster where "
        "the processor has it.",
        "float32|mixed_bfloat16|mixed_float16",
    )
    args = cli.parse(argv, inputs=True)
    if not cli.inputs:
        raise UsageError("INPUT is missing: give one or more files or folders")
    start_for_runs(args.run_dir, model=args.model)

    from aelab.apps.denoising import denoise_pictures

    done, failed = denoise_pictures(
        args.run_dir,
        cli.inputs,
        args.output,
        checkpoint=args.checkpoint,
        compare=args.compare,
        model=args.model,
        overwrite=args.overwrite,
        white_level=args.white_level,
        precision=args.precision,
        ensemble=args.ensemble,
    )
    say(f"{done} of {done + failed} pictures denoised, into {args.output}")
    if failed:
        raise OSError(f"{failed} of {done + failed} pictures could not be denoised")


if __name__ == "__main__":
    run(main)
