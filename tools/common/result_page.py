"""Rows of results of studies: in a JSON file, and as tables in a Markdown page."""

import dataclasses
import json
import os
import statistics
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aelab.apps.study.description import read_description
from aelab.apps.study.results import VariantResult
from aelab.apps.study.state import FINISHED
from aelab.apps.study.statistics import Summary
from aelab.apps.study.study import read_results
from aelab.apps.study.variants import ONLY
from aelab.apps.study.wording import summary_text
from aelab.cli import CommandLine
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.system.console import say
from aelab.system.files import write_bytes, writing
from aelab.system.startup import start_tensorflow

_NO_MODEL = "model not recorded"  # by releases before 0.2.0
BEGIN, END = "<!-- results -->", "<!-- end of results -->"

Row = dict[str, Any]


def write_result_page(
    argv: Sequence[str],
    doc: str | None,
    read_row: Callable[[str, VariantResult], Row],
    tables: Callable[[Sequence[Row]], str],
) -> None:
    """The command line of a tool that writes the results of studies.

    Args:
      argv: the program's name and its arguments, STUDY... --output=FILE.md.
      doc: the tool's help.
      read_row: what a study, given its folder, and one of its variants adds to
        `study_row`.
      tables: the text between the markers, of all rows.

    Raises:
      UsageError: a bad flag, study or file.
    """
    command_line = CommandLine(doc)
    command_line.add_path("output", "Markdown file to write.", "FILE.md", required=True)
    values = command_line.parse(argv, inputs=True)
    if not command_line.inputs:
        raise UsageError("STUDY is missing: give the folders of one or more studies")
    path = Path(values.output)
    if path.suffix != ".md":
        raise UsageError(f"--output={path} must end with .md")
    names = [folder_name(study) for study in command_line.inputs]
    if len({*names}) < len(names):
        raise UsageError("two studies have the same name: rename the folder of one")
    start_tensorflow(find_devices=False)
    rows = read_old_rows(path.with_suffix(".json"))
    for study in command_line.inputs:
        variants = finished_variants(study)
        new = [study_row(study, v) | read_row(study, v) for v in variants]
        rows = replace_rows(rows, new)
    page = _page(path, tables(rows))
    with writing(f"--output={path}"):
        write_bytes(str(path), page.encode())
        content = json.dumps({"results": rows}, indent=2) + "\n"
        write_bytes(str(path.with_suffix(".json")), content.encode())
    say(f"Wrote {path} and {path.with_suffix('.json')}")


def read_old_rows(path: Path) -> list[Row]:
    """The rows that the tool wrote to a JSON file before; none without the file.

    Raises:
      UsageError: the file is not one of the tool.
    """
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["results"])
    except (ValueError, LookupError, TypeError) as error:
        raise UsageError(f"{path} is not a file of this tool: remove it") from error


def replace_rows(rows: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """`rows` with the new rows of a study in place of its old ones, or at the end."""
    old = [i for i, row in enumerate(rows) if row["study"] == new[0]["study"]]
    place = old[0] if old else len(rows)
    kept = [row for row in rows[place:] if row["study"] != new[0]["study"]]
    return [*rows[:place], *new, *kept]


def finished_variants(study: str) -> Iterator[VariantResult]:
    """The variants of the study in a folder.

    Raises:
      UsageError: the folder holds no study, or a search; or a run is not finished.
    """
    description = read_description(study)
    if description is None:
        raise UsageError(f"{study} holds no study")
    if description.search:
        raise UsageError(f"{study} is a search, and only its best trial is evaluated")
    for variant in read_results(study, description):
        for each in variant.runs:
            if each.state.kind != FINISHED:
                raise UsageError(
                    f"{each.run_dir} is not finished: run scripts/study.py "
                    f"--study_dir={study}"
                )
        yield variant


def study_row(study: str, variant: VariantResult) -> Row:
    """The part of a variant's row that all tools have: its runs."""
    runs = [RunDirectory(each.run_dir) for each in variant.runs]
    config = runs[0].read_config()
    data_dir = config.data_dir and folder_name(config.data_dir)
    return {
        "study": folder_name(study),
        "variant": variant.name,
        "flags": dict(variant.flags),
        "config": {**dataclasses.asdict(config), "data_dir": data_dir},
        "data": runs[0].read_data(),
        "machines": _distinct(run.read_machine() for run in runs),
        "versions": _distinct(run.read_versions() for run in runs),
        "parameters": variant.runs[0].state.parameters,
        "best_steps": [each.state.best_step for each in variant.runs],
        "minutes": summary([each.minutes for each in variant.runs]),
    }


def folder_name(folder: str) -> str:
    """The last part of a path."""
    return os.path.basename(os.path.abspath(folder))


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found += [] if value in found else [value]
    return found


def summary(values: Sequence[float]) -> Row:
    """Mean, standard deviation (n - 1; null for one value) and all values."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "each": list(values)}


def summary_cell(metric: str, values: Mapping[str, Any]) -> str:
    """A `summary` of a metric in words, for example "18.91 ± 0.03"."""
    count = len(values["each"])
    return summary_text(metric, Summary(count, values["mean"], values["sd"]))


def variant_name(row: Mapping[str, Any]) -> str:
    """The study of a row, and its variant if there are several."""
    name = f"`{row['study']}`"
    return name if row["variant"] == ONLY else f"{name}, {row['variant']}"


class Machines:
    """The processors of the runs in a table, with letters if there are several."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]):
        cpus = sorted({cpu for row in rows for cpu in _processors(row)})
        self._letters = dict(zip(cpus, string.ascii_lowercase, strict=False))
        versions = {each["tensorflow"] for row in rows for each in row["versions"]}
        self._versions = sorted(versions)

    def text(self) -> str:
        """The processors and the versions of TensorFlow."""
        several = len(self._letters) > 1
        cpus = [
            f"({letter}) {cpu}" if several else cpu
            for cpu, letter in self._letters.items()
        ]
        return f"{', '.join(cpus)}, with TensorFlow {', '.join(self._versions)}"

    def minutes(self, row: Mapping[str, Any]) -> str:
        """The minutes of training of a row, and on how many cores of which one."""
        counts = sorted({machine["threads"] for machine in row["machines"]})
        cores = " or ".join(map(str, counts)) + (" core" if counts == [1] else " cores")
        letters = ", ".join(self._letters[cpu] for cpu in _processors(row))
        which = f" ({letters})" if len(self._letters) > 1 else ""
        return f"{row['minutes']['mean']:.1f} on {cores}{which}"


def _processors(row: Mapping[str, Any]) -> list[str]:
    return sorted(
        {
            f"{each['cpu']} ({each.get('cpu_model', _NO_MODEL)})"
            for each in row["machines"]
        }
    )


def _page(path: Path, text: str) -> str:
    """The Markdown file with new tables."""
    before, after = "# Results\n\n", "\n"
    if path.exists():
        old = path.read_text(encoding="utf-8")
        if old.count(BEGIN) != 1 or old.count(END) != 1:
            raise UsageError(f"--output={path} has no place between {BEGIN} and {END}")
        before, _, rest = old.partition(BEGIN)
        after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"
