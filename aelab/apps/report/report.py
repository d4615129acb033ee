"""Writes the report of one or several runs."""

import os
from collections.abc import Sequence

from aelab.apps.report.page import build_page
from aelab.apps.report.plots import MOST_RUNS, require_matplotlib
from aelab.apps.report.runs import read_runs
from aelab.errors import UsageError
from aelab.system.files import write_bytes, writing

_SUFFIX = ".html"


def write_report(run_dirs: Sequence[str], output: str, axis: str = "epoch") -> int:
    """Writes one HTML page on several runs, which may still be training.

    The same runs give the same bytes.

    Args:
      run_dirs: their directories, 1 to `plots.MOST_RUNS` different ones.
      output: the file, which is replaced if it is there; its folder must be.
      axis: what the curves go over, `epoch` or `step`.

    Returns:
      The size of the page in bytes.

    Raises:
      UsageError: matplotlib is missing, a directory is given twice or holds no run, its
        `config.json` is damaged, or `output` has another ending or can't be written.
      OSError: the disk is full or fails.
    """
    folder = os.path.dirname(os.path.abspath(output))
    if not output.endswith(_SUFFIX):
        raise UsageError(f"--output={output} must end in {_SUFFIX}")
    if not os.path.isdir(folder):
        raise UsageError(f"--output={output}: there is no folder {folder}")
    if os.path.isdir(output):
        raise UsageError(f"--output={output} is a folder; a file is to be written")
    if not 0 < len(run_dirs) <= MOST_RUNS:
        raise UsageError(
            f"--run_dir: {len(run_dirs)} runs are given; a page shows 1 to {MOST_RUNS}"
        )
    require_matplotlib()
    # Of a text from JSON, what is no character (half of a pair) can't be written.
    page = build_page(read_runs(run_dirs, axis), axis).encode(errors="replace")
    with writing(f"--output={output}"):
        write_bytes(output, page)
    return len(page)
