#!/usr/bin/env python3
"""Writes the results of denoisers of photographs, next to baselines and the literature.

tools/picture_results.py STUDY... --output=FILE.md

All runs of a study must be finished, and evaluated on the same pictures, by
scripts/evaluate.py --pictures=FOLDER or --pairs=FOLDER. The tables go between two
markers in the Markdown file, and all numbers to a file next to it; what else is there
is kept, as tools/results.py keeps it.
"""

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import markdown_table
from common.published import PUBLISHED
from common.result_page import (
    Machines,
    Row,
    summary,
    summary_cell,
    variant_name,
    write_result_page,
)

from aelab.apps.study.results import RunResult, VariantResult
from aelab.cli import run
from aelab.errors import UsageError
from aelab.metric_info import format_value

_HEAD = ("study", "trained on", "parameters", "seeds", "Mpixel", "minutes")
_METRICS = ("psnr", "ssim")
_SHARED = ("folder", "pictures", "ensemble", "precision")
_OF_LEVEL = ("stddev", "clip", "correlation")

_SAME_PSNR = 1e-3  # dB
# What was measured: folder, pictures, ensemble, precision, stddev, clip, correlation.
_Condition = tuple[str | int | float | bool | None, ...]


def main(argv: Sequence[str]) -> None:
    """Parses the command line and writes both files."""
    write_result_page(argv, __doc__, read_row, tables)


def read_row(study: str, variant: VariantResult) -> Row:
    """The evaluations on pictures, for the row of a variant.

    Raises:
      UsageError: there are none, its runs were evaluated on different pictures, one
        with another checkpoint than its best, or a file of them is damaged.
    """
    of_runs = [_evaluations(each) for each in variant.runs]
    conditions = of_runs[0].keys()
    if not conditions or any(each.keys() != conditions for each in of_runs):
        raise UsageError(
            f"{study}: evaluate all runs on the same pictures, by scripts/evaluate.py "
            "--pictures=FOLDER or --pairs=FOLDER"
        )
    results = [_result([each[key] for each in of_runs]) for key in conditions]
    return {"steps": variant.runs[0].state.step, "results": results}


def _evaluations(run: RunResult) -> dict[_Condition, Row]:
    """Each level of each evaluation of a run on pictures."""
    found: dict[_Condition, Row] = {}
    for path in sorted(
        Path(run.run_dir).glob("evaluation-*.json"), key=lambda p: p.stem
    ):
        try:
            evaluation = json.loads(path.read_text())
            step = evaluation["step"]
            shared = {name: evaluation[name] for name in _SHARED}
            for level in evaluation["levels"]:
                condition = (level[name] for name in _OF_LEVEL)
                found[(*shared.values(), *condition)] = shared | level
        except (ValueError, LookupError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(
                f"{path} is not a file of scripts/evaluate.py: {reason}"
            ) from None
        if step != run.state.best_step:
            raise UsageError(
                f"{path} is of step {step}, and the best checkpoint of step "
                f"{run.state.best_step}: run scripts/evaluate.py again"
            )
    return found


def _result(levels: Sequence[Row]) -> Row:
    """One level of an evaluation, of all seeds."""
    kept = {k: v for k, v in levels[0].items() if k not in ("each", "baselines")}
    metrics = {name: summary([level[name] for level in levels]) for name in _METRICS}
    with_baselines = [level["baselines"] for level in levels if level["baselines"]]
    return {**kept, **metrics, "baselines": next(iter(with_baselines), {})}


def tables(rows: Sequence[Row]) -> str:
    """A table of the models, and one of PSNR for each folder and kind of noise.

    Raises:
      UsageError: different pictures have the same name of a folder.
    """
    machines = Machines(rows)
    text = f"The models. Minutes of training on {machines.text()}."
    models = markdown_table(_HEAD, (_model(row, machines) for row in rows))
    kinds: dict[tuple[str, str], list[tuple[Row, Row]]] = {}
    for row in rows:
        for result in row["results"]:
            kinds.setdefault(_kind(result), []).append((row, result))
    of_kinds = (_table(*kind, results=results) for kind, results in kinds.items())
    return "\n\n".join([textwrap.fill(text, 88), models, *of_kinds])


def _kind(result: Row) -> tuple[str, str]:
    """Folder and kind of noise."""
    if result["stddev"] is None:
        return result["folder"], "the noise of the files"
    kind = "clipped noise" if result["clip"] else "noise not clipped"
    if correlation := result["correlation"]:
        kind += f", --noise_correlation={correlation:g}"
    return result["folder"], kind


def _model(row: Row, machines: Machines) -> list[str]:
    config = row["config"]
    pixels = row["steps"] * config["batch_size"] * config["image_size"] ** 2
    return [
        variant_name(row),
        config["data_dir"],
        f"{row['parameters']:,}",
        str(len(row["minutes"]["each"])),
        f"{pixels / 1e6:,.0f}",
        machines.minutes(row),
    ]


def _table(folder: str, kind: str, results: Sequence[tuple[Row, Row]]) -> str:
    """PSNR of all that was measured, by levels, with what was published."""
    _check_are_the_same(folder, results)
    levels = sorted({_level(result) for _, result in results})
    lines: dict[str, dict[float, str]] = {}
    for name, level, psnr in _cells(folder, results):
        if level in levels:
            lines.setdefault(name, {})[level] = psnr
    count = results[0][1]["pictures"]
    title = f"**{folder}**: {count} whole pictures, {kind}. PSNR, dB:"
    head = ["", *(f"{level:g}/255" if level else "dB" for level in levels)]
    cells = [[name, *(line.get(n, "") for n in levels)] for name, line in lines.items()]
    return f"{title}\n\n{markdown_table(head, cells)}"


def _check_are_the_same(folder: str, results: Sequence[tuple[Row, Row]]) -> None:
    """Raises UsageError if the noisy pictures of two results differ."""
    first: dict[float, tuple[Row, Row]] = {}
    for row, result in results:
        other_row, other = first.setdefault(_level(result), (row, result))
        if (
            result["pictures"] != other["pictures"]
            or abs(result["input_psnr"] - other["input_psnr"]) > _SAME_PSNR
        ):
            raise UsageError(
                f"{other_row['study']} and {row['study']} were evaluated on different "
                f"pictures, both in folders named {folder}"
            )


def _level(result: Row) -> float:
    """The level of the noise in 255ths; 0 if it is in the files."""
    return round(255 * (result["stddev"] or 0), 3)


def _cells(
    folder: str, results: Sequence[tuple[Row, Row]]
) -> Iterator[tuple[str, float, str]]:
    """Name, level and PSNR: of the input, baselines, publications and our models."""
    from aelab.apps.evaluation.picture_table import TITLES

    for _, result in results:
        text = format_value("psnr", result["input_psnr"])
        yield "noisy input", _level(result), text
    for name, label in TITLES.items():
        for _, result in results:
            if baseline := result["baselines"].get(name):
                yield label, _level(result), format_value("psnr", baseline["psnr"])
    first = results[0][1]
    if not first["clip"] and not first["correlation"]:
        for name, values in PUBLISHED.get(folder, {}).items():
            for level, value in values.items():
                yield f"{name}, published", level, f"{value:.2f}"
    for row, result in results:
        name = variant_name(row) + (", ensemble" if result["ensemble"] else "")
        if result["precision"] != row["config"]["precision"]:
            name += f", {result['precision']}"
        yield name, _level(result), summary_cell("psnr", result["psnr"])


if __name__ == "__main__":
    run(main)
