#!/usr/bin/env python3
"""Writes the images of a compressed file, with the model that it was made with.

scripts/decompress.py --run_dir=DIR FILE.aelab --output=DIR [--salvage]

Pictures become PNG files under their first names; an IDX file comes back as one.
"""

from collections.abc import Sequence

from aelab.cli import flags
from aelab.errors import UsageError


def main(argv: Sequence[str]) -> None:
    """Parses the command line and decompresses the file."""
    command_line = flags.CommandLine(__doc__)
    command_line.add_path("run_dir", "Folder of the run.", "DIR", required=True)
    command_line.add_path("output", "Folder to write to.", "DIR", required=True)
    command_line.add_switch(
        "salvage",
        "Write what is whole of a damaged file; lost images of an IDX file are black.",
    )
    values = command_line.parse(argv, inputs=True)
    if len(command_line.inputs) != 1:
        raise UsageError(
            f"one FILE.aelab is to be given, not {len(command_line.inputs)}"
        )

    from aelab.system.startup import start_tensorflow

    start_tensorflow()

    from aelab.apps.compression import decompress

    (path,) = command_line.inputs
    done = decompress(values.run_dir, path, values.output, values.salvage)
    number = len(done.files)
    files = "1 file" if number == 1 else f"{number:,} files"
    print(f"{done.images:,} images, {files}, in {values.output}")
    if done.damage:
        raise OSError(f"{path} is damaged: {'; '.join(done.damage)}")


if __name__ == "__main__":
    flags.run(main)
