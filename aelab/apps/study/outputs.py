"""The files of a study, next to its runs: `study.json`, its table and its picture."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aelab.apps.study import table_files
from aelab.apps.study.description import STUDY_JSON, Description, read_study_json
from aelab.apps.study.plot import draw_study
from aelab.apps.study.results import VariantResult
from aelab.apps.study.study_json import results
from aelab.apps.study.table import Table, make_table
from aelab.config import FORMAT
from aelab.errors import UsageError
from aelab.system.files import write_bytes, writing


@dataclass(frozen=True)
class Shown:
    """The choices of what the table of a study shows.

    Attributes:
      metrics: the metrics in its columns.
      objective: the metric in the picture.
      baseline: the variant that the others are compared with.
      on_test: whether the metrics are of the test part.
    """

    metrics: Sequence[str] = ("psnr", "ssim")
    objective: str = "psnr"
    baseline: str = ""
    on_test: bool = False


def write_description(folder: str, description: Description, shown: Shown) -> None:
    """Creates the folder of a study, and its `study.json` with the results so far."""
    known = (read_study_json(folder) or {}).get("trials", [])
    with writing(f"--study_dir={folder}"):
        os.makedirs(folder, exist_ok=True)
    content = {
        "format": FORMAT,
        "description": description.to_json(),
        "objective": shown.objective,
        "shown": dataclasses.asdict(shown),
        "trials": known,
    }
    _write_json(folder, content)


def write_results(
    folder: str, description: Description, shown: Shown, found: Sequence[VariantResult]
) -> str:
    """Writes the results of a study; returns its table in Markdown.

    Raises:
      UsageError: SciPy or matplotlib is not installed.
      OSError: the disk is full or fails.
    """
    table = study_table(description, shown, found)
    text = table_files.to_markdown(table)
    files = {
        "table.md": text.encode(),
        "table.csv": table_files.to_csv(table).encode(),
        "table.tex": table_files.to_latex(table).encode(),
        "plot.png": draw_study(found, shown.objective, shown.baseline, shown.on_test),
    }
    metrics = dict.fromkeys([*shown.metrics, shown.objective])
    _write_trials(folder, description, results(found, shown.objective, list(metrics)))
    with writing(f"--study_dir={folder}"):
        for name, content in files.items():
            write_bytes(os.path.join(folder, name), content)
    return text


def study_table(
    description: Description, shown: Shown, found: Sequence[VariantResult]
) -> Table:
    """The table of a study."""
    tested = {
        variant.name
        for variant in description.variants
        if description.run_config(variant, 0).eval_part == "test"
    }
    return make_table(
        found,
        shown.metrics,
        shown.baseline,
        shown.on_test,
        is_search=description.search is not None,
        chosen_on_test=tested,
    )


def read_shown(folder: str) -> Shown:
    """Reads these choices from the `study.json` of a folder.

    Raises:
      UsageError: `study.json` is bad.
    """
    path = os.path.join(folder, STUDY_JSON)
    values = (read_study_json(folder) or {}).get("shown", {})
    try:
        shown = Shown(**values)
        ", ".join([*shown.metrics, shown.objective, shown.baseline])
    except TypeError as error:
        raise UsageError(f"{path}: shown is not what a table shows: {error}") from None
    if isinstance(shown.metrics, str) or not isinstance(shown.on_test, bool):
        raise UsageError(f"{path}: shown is not what a table shows: {values}")
    return shown


def _write_trials(folder: str, description: Description, found: Sequence[Any]) -> None:
    """Replaces the results in `study.json`, and of a search the trials that have begun.

    Everything else may be newer than what this command knows.
    """
    values = read_study_json(folder) or {}
    values["trials"] = found
    if description.uses_tpe:
        values["description"]["variants"] = description.to_json()["variants"]
    _write_json(folder, values)


def _write_json(folder: str, values: Mapping[str, Any]) -> None:
    with writing(f"--study_dir={folder}"):
        text = json.dumps(values, indent=2) + "\n"
        write_bytes(os.path.join(folder, STUDY_JSON), text.encode())
