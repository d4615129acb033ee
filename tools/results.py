#!/usr/bin/env python3
"""Writes the results of studies on their test parts, next to the baselines.

tools/results.py STUDY... --output=docs/results.md

All runs of a study must be finished and evaluated, by scripts/study.py --evaluate. The
tables go between two markers in the Markdown file, which is created if there is none;
the text around them is kept. All numbers, not rounded, go to a file next to it with the
suffix .json. The rows of other studies in that file are kept, so studies may be trained
one after another, on different machines. A study has the name of its folder. A study of
codecs has the bytes of its files only if it has a rate_distortion.json, by
scripts/rate_distortion.py STUDY/runs/*/* --output=STUDY.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import markdown_table
from common.result_page import (
    Machines,
    Row,
    summary,
    summary_cell,
    variant_name,
    write_result_page,
)

from aelab.apps.study.results import VariantResult
from aelab.apps.study.variants import ONLY
from aelab.cli import run
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory

_HEAD = ("study", "parameters", "seeds", "PSNR, dB", "SSIM", "BCE", "minutes")
_SHOWN = ("psnr", "ssim", "bce")


def main(argv: Sequence[str]) -> None:
    """Parses the command line and writes both files."""
    write_result_page(argv, __doc__, read_row, tables)


def read_row(study: str, variant: VariantResult) -> Row:
    """The evaluations on the test part, for the row of a variant.

    Raises:
      UsageError: a run is not evaluated.
    """
    for each in variant.runs:
        if not each.tested:
            raise UsageError(
                f"{each.run_dir} is not evaluated: run scripts/study.py "
                f"--study_dir={study} --evaluate"
            )
    paths = [RunDirectory(each.run_dir).evaluation_json for each in variant.runs]
    evaluations = [json.loads(Path(path).read_text()) for path in paths]
    metrics = [evaluation["metrics"] for evaluation in evaluations]
    return {
        "test_examples": evaluations[0]["examples"],
        "metrics": {n: summary([m[n] for m in metrics]) for n in metrics[0]},
        "baselines": _baselines(evaluations[0]["trained"]),
        "file": _file(study, variant),
    }


def _baselines(level: Mapping[str, Any]) -> Row:
    """The input, if it is corrupted, and the baselines."""
    noisy = {"input": level["input"]} if level["input"]["mse"] else {}
    return {**noisy, **level["baselines"]}


def _file(study: str, variant: VariantResult) -> Row:
    """Bytes per image and quality of compressed files; empty if none were measured.

    Raises:
      UsageError: they are not those of all seeds of the study's only variant.
    """
    path = Path(study, "rate_distortion.json")
    if not path.exists():
        return {}
    names = [f"seed-{each.seed}" for each in variant.runs]
    points = [
        p for p in json.loads(path.read_text())["points"] if p["setting"] in names
    ]
    if variant.name != ONLY or sorted(p["setting"] for p in points) != sorted(names):
        raise UsageError(f"{path} must have each seed of the study's only variant once")
    return {key: summary([p[key] for p in points]) for key in ("bytes", "psnr")}


def tables(rows: Sequence[Row]) -> str:
    """A table for each data set, and sentences on it."""
    sets: dict[tuple[str, str, int, int], list[Row]] = {}
    for row in rows:
        sets.setdefault(_data_set(row), []).append(row)
    return "\n\n".join(_table(*key, rows=of_set) for key, of_set in sets.items())


def _data_set(row: Row) -> tuple[str, str, int, int]:
    """Name, the images that train, and how many validate (0: none) and test."""
    config = row["config"]
    name = config["data_dir"] or config["dataset"]
    train = row["data"]["train"]
    return name, train, config["validation_examples"], row["test_examples"]


def _table(name: str, train: str, validate: int, test: int, rows: Sequence[Row]) -> str:
    parts = f"{int(train.split()[0]):,} training, {validate:,} validation and {test:,} "
    chosen = "validation images"
    if not validate:
        parts = f"{int(train.split()[0]):,} training and {test:,} "
        chosen = "test images as well"
    machines = Machines(rows)
    text = (
        f"**{name}**: {parts}test images. Metrics of the test images, at the "
        f"checkpoint that was best on the {chosen}: mean ± standard deviation over "
        f"seeds. Minutes of training on {machines.text()}."
    )
    table = markdown_table(
        (*_HEAD, "baselines, dB"), (_cells(row, machines) for row in rows)
    )
    return f"{textwrap.fill(text, 88)}\n\n{table}"


def _cells(row: Row, machines: Machines) -> list[str]:
    name = variant_name(row)
    if file := row["file"]:
        name += f", {file['bytes']['mean']:.2f} bytes per image in a file"
        name += f" at {file['psnr']['mean']:.2f} dB"
    cells = [name, f"{row['parameters']:,}", str(len(row["minutes"]["each"]))]
    cells += [summary_cell(metric, row["metrics"][metric]) for metric in _SHOWN]
    return [*cells, machines.minutes(row), _baseline_text(row)]


def _baseline_text(row: Row) -> str:
    from aelab.apps.evaluation.table import LABELS

    own = row["metrics"]["psnr"]["mean"]
    texts = []
    for name, values in row["baselines"].items():
        number = f"{values['components']} " if name == "principal_components" else ""
        label = "noisy input" if name == "input" else number + LABELS[name]
        better = " (better)" if values["psnr"] > own else ""
        texts.append(f"{label} {values['psnr']:.2f}{better}")
    return "; ".join(texts)


if __name__ == "__main__":
    run(main)
