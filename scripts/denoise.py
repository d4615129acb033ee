#!/usr/bin/env python3
"""Takes the noise out of pictures of any size, with the model of a run.

scripts/denoise.py --run_dir=DIR INPUT... --output=DIR [--checkpoint=best|latest]
                   [--compare]

INPUT: PNG, JPEG, WebP, BMP and TIFF files, or folders, of which all such files are
taken, those in sub-folders as well. They are written under the same names into the
output folder, which must be another one. Size, format, alpha, and 8 or 16 bits stay;
fewer than 8 bits become 8, and palettes colour.
"""

from collections.abc import Sequence

from aelab.cli import flags
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory


def main(argv: Sequence[str]) -> None:
    """Parses the command line and denoises the files."""
    command_line = flags.CommandLine(__doc__)
    command_line.add_path("run_dir", "Folder of the run.", "DIR", required=True)
    command_line.add_path("output", "Folder to write to.", "DIR", required=True)
    command_line.add_choice("checkpoint", "Which weights.", ("best", "latest"))
    command_line.add_switch(
        "compare",
        "Write NAME-compare.png as well: before and after, side by side.",
    )
    values = command_line.parse(argv, inputs=True)
    if not command_line.inputs:
        raise UsageError("INPUT is missing: a file or folder, as many as you like")
    RunDirectory(values.run_dir).read_config()  # no run is answered at once

    from aelab.system.startup import start_tensorflow

    start_tensorflow()

    from aelab.apps.denoising import denoise_pictures

    done, failed = denoise_pictures(
        values.run_dir,
        command_line.inputs,
        values.output,
        values.checkpoint,
        values.compare,
    )
    print(f"{done} of {done + failed} pictures denoised, into {values.output}")
    if failed:
        raise OSError(f"{failed} of {done + failed} pictures could not be denoised")


if __name__ == "__main__":
    flags.run(main)
