#!/usr/bin/env python3
"""Prints the time of each operation in a run's profile, the longest first.

tools/profile_table.py --run_dir=DIR [--group=kind|operation]

The profile is the newest that `scripts/train.py --profile_steps=A:B` wrote there.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import markdown_table

from aelab.cli import CommandLine, run
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory

_MAX_LINES = 40


def operations(path: Path) -> Iterator[tuple[str, float]]:
    """Name (`scope/name:Kind`) and milliseconds of each executed operation."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    for plane in space.planes:
        names = {key: value.name for key, value in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name = names[event.metadata_id]
                # A call from Python is named `name: Kind`, with a space.
                kind = name.rpartition(":")[2]
                if kind not in ("", name) and "::" not in name and kind[0] != " ":
                    yield name, event.duration_ps / 1e9


def _kind(name: str) -> str:
    """The kind of an operation, marked if it belongs to the backward pass."""
    return name.rpartition(":")[2] + ", backward" * ("gradient_tape/" in name)


def table(rows: list[tuple[str, float]], steps: int) -> str:
    """A Markdown table of the longest `(name, milliseconds)`, summed by name."""
    counts, times = Counter(name for name, _ in rows), Counter[str]()
    for name, milliseconds in rows:
        times[name] += milliseconds
    total = sum(times.values())
    cells = [
        [name, f"{counts[name] / steps:.1f}", f"{ms / steps:.3f}", f"{ms / total:.1%}"]
        for name, ms in times.most_common(_MAX_LINES)
    ]
    cells.append(["all, over all cores", "", f"{total / steps:.3f}", ""])
    return markdown_table(["operation", "a step", "ms a step", "share"], cells)


def main(argv: Sequence[str]) -> None:
    """Parses the command line and prints the table."""
    command_line = CommandLine(__doc__)
    command_line.add_path("run_dir", "Folder of the run.", "DIR", required=True)
    command_line.add_choice("group", "Key of the sums.", ("kind", "operation"))
    values: Any = command_line.parse(argv)
    folder = Path(RunDirectory(values.run_dir).tensorboard)
    paths = sorted(folder.glob("plugins/profile/*/*.xplane.pb"))
    if not paths:
        hint = "train.py --profile_steps=A:B writes one"
        raise UsageError(f"--run_dir={values.run_dir} has no profile; {hint}")
    from aelab.system.startup import start_tensorflow

    start_tensorflow(find_devices=False)
    rows = list(operations(paths[-1]))
    # Each step reads the clock twice.
    steps = max(sum(name.endswith(":Timestamp") for name, _ in rows) // 2, 1)
    if values.group == "kind":
        rows = [(_kind(name), milliseconds) for name, milliseconds in rows]
    print(table(rows, steps))


if __name__ == "__main__":
    run(main)
