#!/usr/bin/env python3
"""Removes noise from pictures of any size with the model of a run.

scripts/denoise.py --run_dir=DIR INPUT... --output=DIR [--checkpoint=best|latest]
                   [--compare]

INPUT: PNG, JPEG, WebP, BMP and TIFF files, or folders of such files, including their
sub-folders. Results get the same names in the output folder, which must be a different
folder. Size, format, alpha, and 8 or 16 bits are preserved; fewer than 8 bits become 8,
and palettes become color.
"""

from collections.abc import Sequence

from aelab.cli import CommandLine, run
from aelab.errors import UsageError
from aelab.runs.start import start_for_runs


def main(argv: Sequence[str]) -> None:
    """Parses the command line and denoises the files."""
    command_line = CommandLine(__doc__)
    command_line.add_run()
    command_line.add_path("output", "Folder to write to.", "DIR", required=True)
    command_line.add_switch(
        "compare",
        "Also write NAME-compare.png: before and after, side by side.",
    )
    values = command_line.parse(argv, inputs=True)
    if not command_line.inputs:
        raise UsageError("INPUT is missing: give one or more files or folders")
    start_for_runs(values.run_dir, model=values.model)

    from aelab.apps.denoising import denoise_pictures

    done, failed = denoise_pictures(
        values.run_dir,
        command_line.inputs,
        values.output,
        values.checkpoint,
        values.compare,
        values.model,
    )
    print(f"{done} of {done + failed} pictures denoised, into {values.output}")
    if failed:
        raise OSError(f"{failed} of {done + failed} pictures could not be denoised")


if __name__ == "__main__":
    run(main)
