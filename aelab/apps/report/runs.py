"""Reads of a run directory what a report shows; whatever is damaged is a note."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aelab.apps.report.curves import Curves, read_curves
from aelab.config import FIELDS, parse_object
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory

_PANEL = re.compile(r"panel-([0-9]+)\.png")
_PNG_BEGIN, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Run:
    """What is shown of a run.

    Attributes:
      name: how it is called beside the others.
      config: what `config.json` holds.
      curves: by split and name of the figure.
      panels: step and PNG file of the first and of the newest panel.
      evaluation: what `evaluation.json` holds, empty if there is none.
      notes: sentences on what is missing or damaged.
    """

    name: str
    config: dict[str, Any]
    curves: Curves
    panels: list[tuple[int, bytes]]
    evaluation: dict[str, Any]
    notes: list[str]


def read_runs(paths: Sequence[str], axis: str) -> list[Run]:
    """Reads several runs.

    Args:
      paths: their directories.
      axis: what curves go over, one of `curves.AXES`.

    Raises:
      UsageError: a directory is given twice or holds no run, or its `config.json` is
        damaged.
    """
    known: dict[str, str] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in known:
            raise UsageError(
                f"--run_dir: {path} and {known[real]} are the same directory"
            )
        known[real] = path
    return [
        _read_run(path, name, axis)
        for path, name in zip(paths, names(paths), strict=True)
    ]


def names(paths: Sequence[str]) -> list[str]:
    """Names of runs: the directories' own, with those around them if need be."""
    whole = [os.path.abspath(path) for path in paths]
    short = [os.path.basename(path) or path for path in whole]
    if len(set(short)) == len(short):
        return short
    common = os.path.commonpath(whole)
    if common in whole:  # the others are within it
        common = os.path.dirname(common)
    return [os.path.relpath(path, common) for path in whole]


def _read_run(path: str, name: str, axis: str) -> Run:
    directory = RunDirectory(path)
    config = directory.read_values()
    if not FIELDS.keys() & config.keys():
        raise UsageError(
            f"--run_dir={path} holds no run: {directory.config_json} has no field of "
            "a configuration"
        )
    notes: list[str] = []
    return Run(
        name,
        config,
        _read_curves(directory.metrics_jsonl, axis, notes),
        _read_panels(directory.images, notes),
        _read_evaluation(directory.evaluation_json, notes),
        notes,
    )


def _read_curves(path: str, axis: str, notes: list[str]) -> Curves:
    try:
        curves, damaged = read_curves(path, axis)
    except FileNotFoundError:
        curves, damaged = {}, []
    except OSError as error:
        notes.append(f"metrics.jsonl can't be read: {error.strerror}.")
        return {}
    if damaged:
        notes.append(
            f"metrics.jsonl has lines that hold no figures, which are left out: "
            f"{len(damaged):,}, the first of them line {damaged[0]:,}."
        )
    if not curves:
        notes.append("There are no figures yet.")
    return curves


def _read_panels(folder: str, notes: list[str]) -> list[tuple[int, bytes]]:
    try:
        found = [_PANEL.fullmatch(name) for name in os.listdir(folder)]
    except FileNotFoundError:
        return []
    except OSError as error:
        notes.append(f"images/ can't be read: {error.strerror}.")
        return []
    panels = sorted((int(match[1]), match[0]) for match in found if match)
    read = []
    for step, name in panels if len(panels) < 2 else (panels[0], panels[-1]):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                content = file.read()
        except OSError as error:
            notes.append(f"images/{name} can't be read: {error.strerror}.")
            continue
        if content.startswith(_PNG_BEGIN) and content.endswith(_PNG_END):
            read.append((step, content))
        else:
            notes.append(f"images/{name} is no whole PNG file.")
    return read


def _read_evaluation(path: str, notes: list[str]) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            return parse_object(file.read(), "evaluation.json")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        notes.append(f"evaluation.json can't be read: {error}.")
    except UsageError as error:
        notes.append(f"{error}.")
    return {}
