"""The studies of a report: their tables and pictures, and where their runs are."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aelab.apps.study.description import STUDY_JSON, read_description
from aelab.apps.study.outputs import read_shown, study_table
from aelab.apps.study.plot import draw_study
from aelab.apps.study.state import MISSING
from aelab.apps.study.study import read_results, with_trials
from aelab.apps.study.table import Table
from aelab.errors import UsageError
from aelab.system.optional import require


class Study(NamedTuple):
    """A study, as far as it is.

    Attributes:
      path: its folder.
      table: the content of `table.md`.
      plot: the picture `plot.png`.
      runs: the folders of the runs that have begun, with names that are unique in the
        study.
    """

    path: str
    table: Table
    plot: bytes
    runs: Mapping[str, str]


def read_studies(paths: Sequence[str]) -> tuple[list[Study], dict[str, str]]:
    """Reads the studies among some folders; one may still be training.

    Returns:
      The studies, and for each folder with a bad study the reason.

    Raises:
      UsageError: there is one, and SciPy is not installed.
    """
    folders = [p for p in paths if os.path.lexists(os.path.join(p, STUDY_JSON))]
    if folders:
        require("scipy", extra="study")
    studies, refused = [], {}
    for path in folders:
        try:
            studies.append(_read_study(path))
        except UsageError as error:
            refused[path] = str(error)
    return studies, refused


def _read_study(path: str) -> Study:
    description, shown = read_description(path), read_shown(path)
    if description is None:
        raise UsageError(f"{path} holds no study: {STUDY_JSON} is not a file")
    description = with_trials(path, description)
    if not description.variants:
        raise UsageError(f"no trial of the search in {path} has begun")
    found = read_results(path, description)
    table = study_table(description, shown, found)
    plot = draw_study(found, shown.objective, shown.baseline, shown.on_test)
    runs = {
        run.run_dir: f"{variant.name}/seed-{run.seed}"
        for variant in found
        for run in variant.runs
        if run.state.kind != MISSING
    }
    return Study(path, table, plot, runs)
