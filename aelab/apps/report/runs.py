"""Reads the parts of a run that a report shows; damage becomes a note."""

import contextlib
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from aelab.apps.report.curves import EMPTY, Curve, Curves, read_curves
from aelab.apps.report.studies import Study, read_studies
from aelab.config import FIELDS, parse_object
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.system.console import printable, warn

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

    path: str
    name: str  # unique in the report
    config: dict[str, Any]
    curves: Curves  # by split and metric
    pictures: list[Picture]  # the first and the newest of each tag, in order of tag
    evaluation: dict[str, Any]  # empty without an `evaluation.json`
    notes: list[str]  # sentences on missing or damaged parts

    def curve(self, split: str, name: str) -> Curve:
        """The curve of a metric; empty if the run lacks it."""
        return self.curves.get((split, name), EMPTY)

    def at_lowest_loss(self, name: str) -> float | None:
        """A metric in the evaluation of lowest loss; None without a value."""
        return self.curve("eval", name).at(self.curve("eval", "loss").lowest()[2])


def read_runs(paths: Sequence[str], axis: str) -> tuple[list[Study], list[Run]]:
    """Reads studies and runs from their folders, each once, and the studies' runs.

    A path without a run or a study, or with a damaged `config.json` or `study.json`, is
    left out with a warning. `axis` is one of `curves.AXES`.

    Raises:
      UsageError: nothing is left, or there is a study, and SciPy is not installed.
    """
    studies, bad = read_studies(_distinct(paths))
    inside = {path: name for study in studies for path, name in study.runs.items()}
    known = {study.path for study in studies} | bad.keys()
    others = [path for path in _distinct(paths) if path not in known]
    configs: dict[str, dict[str, Any]] = {}
    refused = [*bad.values()]
    for path in _distinct([*inside, *others]):
        try:
            configs[path] = _read_config(path)
        except UsageError as error:
            refused.append(str(error))
    if not configs and not studies:
        others_too = f" ({len(refused) - 1} more hold none either)" * bool(refused[1:])
        raise UsageError(
            f"{refused[0]}{others_too}" if refused else "--run_dir is missing"
        )
    for reason in refused:
        warn(f"{reason}; it is left out")
    shown = map(printable, names(list(configs), inside))
    pairs = zip(configs.items(), shown, strict=True)
    runs = [_read_run(path, name, axis, config) for (path, config), name in pairs]
    return studies, runs


def _distinct(paths: Sequence[str]) -> list[str]:
    """The folders, each under the first of its names."""
    found: dict[str, str] = {}
    for path in paths:
        found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def names(
    paths: Sequence[str], given: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Names of runs: their directories' names, with parents only if needed.

    Some may have other names `given`, as long as all names differ.
    """
    full = [os.path.abspath(path) for path in paths]
    short = [
        given.get(p) or os.path.basename(f) or f
        for p, f in zip(paths, full, strict=True)
    ]
    if len(set(short)) == len(short):
        return short
    common = os.path.commonpath(full)
    if common in full:  # one run contains the others
        common = os.path.dirname(common)
    return [os.path.relpath(path, common) for path in full]


def select(runs: Sequence[Run], given: str, most: int) -> list[Run]:
    """The runs that `given` names, or else up to `most` runs of highest PSNR.

    `given` has names separated by commas; names may contain commas as well. The PSNR is
    the overview's. The order of `runs` is kept.

    Raises:
      UsageError: `given` has an unknown name, or more than `most`.
    """

    def psnr(run: Run) -> float:
        """The PSNR in dB at the lowest loss, below all others if there is none."""
        value = run.at_lowest_loss("psnr")
        return -math.inf if value is None else value

    by_psnr = [run.name for run in sorted(runs, key=psnr, reverse=True)]
    chosen = _split_names(given, by_psnr) if given else by_psnr[:most]
    if len(set(chosen)) > most:
        raise UsageError(f"--curves={given}: curves of at most {most} runs are drawn")
    return [run for run in runs if run.name in chosen]


def _split_names(given: str, known: Sequence[str]) -> list[str]:
    """The known names in `given`, separated by commas; the longest where two fit."""
    chosen, rest = [], f"{given},"
    while rest:
        fitting = [name for name in known if rest.startswith(f"{name},")]
        if not fitting:
            raise UsageError(
                f"--curves={given}: {rest.partition(',')[0]!r} is not the name of a "
                f"run; the names are {', '.join(known)}"
            )
        chosen.append(max(fitting, key=len))
        rest = rest.removeprefix(f"{chosen[-1]},")
    return chosen


def _read_config(path: str) -> dict[str, Any]:
    directory = RunDirectory(path)
    config = directory.read_values()
    if not FIELDS.keys() & config.keys():
        raise UsageError(
            f"--run_dir={path} holds no run: {directory.config_json} has no field of "
            "a configuration"
        )
    return config


def _read_run(path: str, name: str, axis: str, config: dict[str, Any]) -> Run:
    directory = RunDirectory(path)
    notes: list[str] = []
    return Run(
        path,
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
