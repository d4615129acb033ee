"""Reads the parts of a run that a report shows; damage becomes a note."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aelab.apps.report.curves import EMPTY, Curve, Curves, read_curves
from aelab.config import FIELDS, parse_object
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory

_PICTURE = re.compile(r"([^.].*)-([0-9]+)\.png")
_PNG_BEGIN, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


class Picture(NamedTuple):
    """A PNG file in images/, with its tag and training step."""

    tag: str
    step: int
    png: bytes


@dataclass(frozen=True)
class Run:
    """The parts of a run that are shown.

    No other run of the report has the same name. Curves are by split and metric. Each
    tag has its first and its newest picture, in order of tag. `evaluation` is empty if
    there is no `evaluation.json`. `notes` say what is missing or damaged.
    """

    name: str
    config: dict[str, Any]
    curves: Curves
    pictures: list[Picture]
    evaluation: dict[str, Any]
    notes: list[str]

    def curve(self, split: str, name: str) -> Curve:
        """The curve of a metric; empty if there is none."""
        return self.curves.get((split, name), EMPTY)


def read_runs(paths: Sequence[str], axis: str) -> list[Run]:
    """Reads runs from their directories; `axis` is one of `curves.AXES`.

    Raises:
      UsageError: a directory is given twice or holds no run, or its `config.json` is
        damaged.
    """
    known: dict[str, str] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in known:
            same = f"{path} and {known[real]}"
            raise UsageError(f"--run_dir: {same} are the same directory")
        known[real] = path
    pairs = zip(paths, names(paths), strict=True)
    return [_read_run(path, name, axis) for path, name in pairs]


def names(paths: Sequence[str]) -> list[str]:
    """Names of runs: their directories' names, with parents only if needed."""
    full = [os.path.abspath(path) for path in paths]
    short = [os.path.basename(path) or path for path in full]
    if len(set(short)) == len(short):
        return short
    common = os.path.commonpath(full)
    if common in full:  # one run contains the others
        common = os.path.dirname(common)
    return [os.path.relpath(path, common) for path in full]


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
        _read_pictures(directory.images, notes),
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
            f"metrics.jsonl has {len(damaged):,} damaged lines, which are left out; "
            f"the first is line {damaged[0]:,}."
        )
    if not curves:
        notes.append("There are no metrics yet.")
    return curves


def _read_pictures(folder: str, notes: list[str]) -> list[Picture]:
    try:
        matches = [_PICTURE.fullmatch(name) for name in os.listdir(folder)]
    except FileNotFoundError:
        return []
    except OSError as error:
        notes.append(f"images/ can't be read: {error.strerror}.")
        return []
    files: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for match in filter(None, matches):
        files[match[1]][int(match[2])] = match[0]
    pictures = []
    for tag, names in sorted(files.items()):
        for step in sorted({min(names), max(names)}):
            if png := _read_png(folder, names[step], notes):
                pictures.append(Picture(tag, step, png))
    return pictures


def _read_png(folder: str, name: str, notes: list[str]) -> bytes:
    """The content of a PNG file; empty, with a note, if it is damaged."""
    try:
        with open(os.path.join(folder, name), "rb") as file:
            content = file.read()
    except OSError as error:
        notes.append(f"images/{name} can't be read: {error.strerror}.")
        return b""
    if content.startswith(_PNG_BEGIN) and content.endswith(_PNG_END):
        return content
    notes.append(f"images/{name} is not a complete PNG file.")
    return b""


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
