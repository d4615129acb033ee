"""Reads the parts of a run that a report shows; damage becomes a note."""

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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
    """The parts of a run that are shown."""

    name: str  # unique in the report
    config: dict[str, Any]
    curves: Curves  # by split and metric
    pictures: list[Picture]  # the first and the newest of each tag, in order of tag
    evaluation: dict[str, Any]  # empty without an `evaluation.json`
    notes: list[str]  # sentences on missing or damaged parts

    def curve(self, split: str, name: str) -> Curve:
        """The curve of a metric; empty if the run lacks it."""
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


@contextlib.contextmanager
def _noting(name: str, notes: list[str]) -> Iterator[None]:
    """Notes that a part of a run can't be read; a missing part needs no note."""
    try:
        yield
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        notes.append(f"{name} can't be read: {getattr(error, 'strerror', error)}.")


def _read_curves(path: str, axis: str, notes: list[str]) -> Curves:
    with _noting("metrics.jsonl", notes):
        is_there = os.path.exists(path)
        curves, damaged = read_curves(path, axis) if is_there else ({}, [])
        if damaged:
            notes.append(
                f"metrics.jsonl has {len(damaged):,} damaged lines, which are left out;"
                f" the first is line {damaged[0]:,}."
            )
        if not curves:
            notes.append("There are no metrics yet.")
        return curves
    return {}


def _read_pictures(folder: str, notes: list[str]) -> list[Picture]:
    files: defaultdict[str, dict[int, str]] = defaultdict(dict)
    with _noting("images/", notes):
        for match in filter(None, map(_PICTURE.fullmatch, os.listdir(folder))):
            files[match[1]][int(match[2])] = match[0]
    pictures = []
    for tag, names in sorted(files.items()):
        for step in sorted({min(names), max(names)}):
            with _noting(f"images/{names[step]}", notes):
                png = Path(folder, names[step]).read_bytes()
                if png.startswith(_PNG_BEGIN) and png.endswith(_PNG_END):
                    pictures.append(Picture(tag, step, png))
                else:
                    notes.append(f"images/{names[step]} is not a complete PNG file.")
    return pictures


def _read_evaluation(path: str, notes: list[str]) -> dict[str, Any]:
    with _noting("evaluation.json", notes):
        text = Path(path).read_text(encoding="utf-8-sig")
        try:
            return parse_object(text, "evaluation.json")
        except UsageError as error:
            notes.append(f"{error}.")
    return {}
