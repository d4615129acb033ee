"""Writes the report of one or several runs."""

from collections.abc import Sequence

from aelab.apps.report.page import build_page
from aelab.apps.report.plots import MAX_RUNS
from aelab.apps.report.runs import read_runs
from aelab.errors import UsageError
from aelab.system.files import check_output_file, write_bytes, writing
from aelab.system.optional import require


def write_report(run_dirs: Sequence[str], output: str, axis: str = "epoch") -> int:
    """Writes one HTML page on 1 to `MAX_RUNS` runs, which may still be training.

    The same runs give the same bytes. The x-axis of the curves is `epoch` or `step`. An
    existing file is replaced. Returns the size of the page in bytes.

    Raises:
      UsageError: `read_runs` raises it, the number of runs is wrong, matplotlib is
        missing, or `output` does not end in `.html` or can't be written.
      OSError: the disk is full or fails.
    """
    check_output_file(output, ".html")
    if not 0 < len(run_dirs) <= MAX_RUNS:
        raise UsageError(
            f"--run_dir: {len(run_dirs)} runs are given; a page shows 1 to {MAX_RUNS}"
        )
    require("matplotlib.figure", extra="report")
    # JSON may contain lone surrogates, which UTF-8 can't encode.
    page = build_page(read_runs(run_dirs, axis), axis).encode(errors="replace")
    with writing(f"--output={output}"):
        write_bytes(output, page)
    return len(page)
