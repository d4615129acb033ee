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

import dataclasses
import json
import os
import statistics
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import markdown_table

from aelab.apps.study.description import read_description
from aelab.apps.study.results import VariantResult
from aelab.apps.study.state import FINISHED
from aelab.apps.study.statistics import Summary
from aelab.apps.study.study import read_results
from aelab.apps.study.variants import ONLY
from aelab.apps.study.wording import summary_text
from aelab.cli import CommandLine, run
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.system.console import say
from aelab.system.files import write_bytes, writing
from aelab.system.startup import start_tensorflow

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
_HEAD = ("study", "parameters", "seeds", "PSNR, dB", "SSIM", "BCE", "minutes")
_SHOWN = ("psnr", "ssim", "bce")


def main(argv: Sequence[str]) -> None:
    """Parses the command line and writes both files."""
    command_line = CommandLine(__doc__)
    command_line.add_path("output", "Markdown file to write.", "FILE.md", required=True)
    values = command_line.parse(argv, inputs=True)
    if not command_line.inputs:
        raise UsageError("STUDY is missing: give the folders of one or more studies")
    path = Path(values.output)
    if path.suffix != ".md":
        raise UsageError(f"--output={path} must end with .md")
    names = [_name(study) for study in command_line.inputs]
    if len({*names}) < len(names):
        raise UsageError("two studies have the same name: rename the folder of one")
    start_tensorflow(find_devices=False)
    rows = read_old_rows(path.with_suffix(".json"))
    for study in command_line.inputs:
        rows = replace_rows(rows, list(read_rows(study)))
    page = _page(path, tables(rows))
    with writing(f"--output={path}"):
        write_bytes(str(path), page.encode())
        content = json.dumps({"results": rows}, indent=2) + "\n"
        write_bytes(str(path.with_suffix(".json")), content.encode())
    say(f"Wrote {path} and {path.with_suffix('.json')}")


def read_old_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that this tool wrote to a JSON file before; none without the file.

    Raises:
      UsageError: the file is not one of this tool.
    """
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["results"])
    except (ValueError, LookupError, TypeError) as error:
        raise UsageError(f"{path} is not a file of this tool: remove it") from error


def replace_rows(
    rows: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """`rows` with the new rows of a study in place of its old ones, or at the end."""
    old = [i for i, row in enumerate(rows) if row["study"] == new[0]["study"]]
    place = old[0] if old else len(rows)
    kept = [row for row in rows[place:] if row["study"] != new[0]["study"]]
    return [*rows[:place], *new, *kept]


def read_rows(study: str) -> Iterator[dict[str, Any]]:
    """A row for each variant of the study in a folder, as the JSON file has it.

    Raises:
      UsageError: there is no study, or a run is not finished and evaluated.
    """
    description = read_description(study)
    if description is None:
        raise UsageError(f"{study} holds no study")
    if description.search:
        raise UsageError(f"{study} is a search, and only its best trial is evaluated")
    for variant in read_results(study, description):
        for each in variant.runs:
            if each.state.kind != FINISHED or not each.tested:
                raise UsageError(
                    f"{each.run_dir} is not finished and evaluated: run "
                    f"scripts/study.py --study_dir={study} --evaluate"
                )
        yield _row(study, variant)


def _row(study: str, variant: VariantResult) -> dict[str, Any]:
    runs = [RunDirectory(each.run_dir) for each in variant.runs]
    evaluations = [json.loads(Path(r.evaluation_json).read_text()) for r in runs]
    metrics = [evaluation["metrics"] for evaluation in evaluations]
    config = runs[0].read_config()
    data_dir = config.data_dir and _name(config.data_dir)
    return {
        "study": _name(study),
        "variant": variant.name,
        "flags": dict(variant.flags),
        "config": {**dataclasses.asdict(config), "data_dir": data_dir},
        "data": runs[0].read_data(),
        "test_examples": evaluations[0]["examples"],
        "machines": _distinct(r.read_machine() for r in runs),
        "versions": _distinct(r.read_versions() for r in runs),
        "parameters": variant.runs[0].state.parameters,
        "best_steps": [each.state.best_step for each in variant.runs],
        "minutes": _summary([each.minutes for each in variant.runs]),
        "metrics": {n: _summary([m[n] for m in metrics]) for n in metrics[0]},
        "baselines": _baselines(evaluations[0]["trained"]),
        "file": _file(study, variant),
    }


def _name(folder: str) -> str:
    return os.path.basename(os.path.abspath(folder))


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found += [] if value in found else [value]
    return found


def _summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1; null for one value) and all values."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "each": list(values)}


def _baselines(level: Mapping[str, Any]) -> dict[str, Any]:
    """The input, if it is corrupted, and the baselines."""
    noisy = {"input": level["input"]} if level["input"]["mse"] else {}
    return {**noisy, **level["baselines"]}


def _file(study: str, variant: VariantResult) -> dict[str, Any]:
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
    return {key: _summary([p[key] for p in points]) for key in ("bytes", "psnr")}


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for each data set, and sentences on it."""
    sets: dict[tuple[str, str, int, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        sets.setdefault(_data_set(row), []).append(row)
    return "\n\n".join(_table(*key, rows=of_set) for key, of_set in sets.items())


def _data_set(row: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """Name, the images that train, and how many validate (0: none) and test."""
    config = row["config"]
    name = config["data_dir"] or config["dataset"]
    train = row["data"]["train"]
    return name, train, config["validation_examples"], row["test_examples"]


def _table(
    name: str, train: str, validate: int, test: int, rows: Sequence[Mapping[str, Any]]
) -> str:
    cpus = {_processor(machine) for row in rows for machine in row["machines"]}
    versions = {version["tensorflow"] for row in rows for version in row["versions"]}
    parts = f"{int(train.split()[0]):,} training, {validate:,} validation and {test:,} "
    chosen = "validation images"
    if not validate:
        parts = f"{int(train.split()[0]):,} training and {test:,} "
        chosen = "test images as well"
    text = (
        f"**{name}**: {parts}test images. Metrics of the test images, at the "
        f"checkpoint that was best on the {chosen}: mean ± standard deviation over "
        f"seeds. Minutes of training on "
        f"{', '.join(sorted(cpus))}, with "
        f"TensorFlow {', '.join(sorted(versions))}."
    )
    table = markdown_table((*_HEAD, "baselines, dB"), map(_cells, rows))
    return f"{textwrap.fill(text, 88)}\n\n{table}"


def _processor(machine: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (machine["cpu"], machine.get("cpu_model"))))


def _cells(row: Mapping[str, Any]) -> list[str]:
    name = f"`{row['study']}`"
    if row["variant"] != ONLY:
        name += f", {row['variant']}"
    if file := row["file"]:
        name += f", {file['bytes']['mean']:.2f} bytes per image in a file"
        name += f" at {file['psnr']['mean']:.2f} dB"
    cells = [name, f"{row['parameters']:,}", str(len(row["minutes"]["each"]))]
    for metric in _SHOWN:
        mean, sd, each = row["metrics"][metric].values()
        cells.append(summary_text(metric, Summary(len(each), mean, sd)))
    counts = sorted({machine["threads"] for machine in row["machines"]})
    cores = " or ".join(map(str, counts)) + (" core" if counts == [1] else " cores")
    cells.append(f"{row['minutes']['mean']:.1f} on {cores}")
    return [*cells, _baseline_text(row)]


def _baseline_text(row: Mapping[str, Any]) -> str:
    from aelab.apps.evaluation.table import LABELS

    own = row["metrics"]["psnr"]["mean"]
    texts = []
    for name, values in row["baselines"].items():
        number = f"{values['components']} " if name == "principal_components" else ""
        label = "noisy input" if name == "input" else number + LABELS[name]
        better = " (better)" if values["psnr"] > own else ""
        texts.append(f"{label} {values['psnr']:.2f}{better}")
    return "; ".join(texts)


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


if __name__ == "__main__":
    run(main)
