#!/usr/bin/env python3
"""Writes the images of a compressed file with the model that compressed it.

scripts/decompress.py --run_dir=DIR FILE.aelab --output=DIR [--salvage]

Pictures become PNG files with their original names; an IDX file becomes an IDX file.
"""

from collections.abc import Sequence

from aelab.cli import CommandLine, run
from aelab.errors import UsageError
from aelab.runs.start import start_for_runs
from aelab.system.console import say


def main(argv: Sequence[str]) -> None:
    """Parses the command line and decompresses the file."""
    cli = CommandLine(__doc__)
    cli.add_run(checkpoint=False)
    cli.add_output("Folder to write to.", "DIR")
    cli.add_switch(
        "salvage",
        "Write the intact images of a damaged file; lost images of an IDX file are "
        "black.",
    )
    args = cli.parse(argv, inputs=True)
    if len(cli.inputs) != 1:
        raise UsageError(f"give one FILE.aelab, not {len(cli.inputs)}")
    start_for_runs(args.run_dir, model=args.model)

    from aelab.apps.compression import decompress

    (path,) = cli.inputs
    done = decompress(
        args.run_dir, path, args.output, args.salvage, args.model, args.overwrite
    )
    number = len(done.files)
    files = "1 file" if number == 1 else f"{number:,} files"
    say(f"{done.images:,} images, {files}, in {args.output}")
    if done.damage:
        raise OSError(f"{path} is damaged: {'; '.join(done.damage)}")


if __name__ == "__main__":
    run(main)
