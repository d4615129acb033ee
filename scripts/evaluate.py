#!/usr/bin/env python3
"""Evaluates a run on held-out images, next to simple baselines.

scripts/evaluate.py --run_dir=DIR [--checkpoint=best|latest] [--data_dir=DIR]
                    [--split=test|validation]
scripts/evaluate.py --run_dir=DIR --pictures=FOLDER [--noise_stddevs=15/255,25/255]
                    [--noise_clip=false] [--ensemble] [--precision=P]
scripts/evaluate.py --run_dir=DIR --pairs=FOLDER --noisy=SUFFIX --clean=SUFFIX

The first form evaluates on a part of the run's data set. Pictures and pairs are
evaluated whole, and the run's own data is not read: noise is added to the pictures of a
folder, or is in the files NAME + SUFFIX. Prints a table. Writes evaluation.json or
evaluation-FOLDER.json into the run directory.
"""

from collections.abc import Sequence

from absl import flags

from aelab.cli import CommandLine, run
from aelab.errors import UsageError
from aelab.runs.start import start_for_runs
from aelab.system.console import output

# What each flag is used with: parts of the data set, or whole pictures.
_FORMS = {
    "data_dir": ("parts",),
    "split": ("parts",),
    "noise_stddevs": ("parts", "pictures"),
    "noise_clip": ("pictures",),
    "noisy": ("pairs",),
    "clean": ("pairs",),
    "ensemble": ("pictures", "pairs"),
    "precision": ("pictures", "pairs"),
}


def main(argv: Sequence[str]) -> None:
    """Parses the command line, evaluates and prints the table."""
    cli = _command_line()
    args = cli.parse(argv)
    _check(args)
    start_for_runs(args.run_dir, model=args.model)
    output(_evaluate_whole(args) if args.pictures or args.pairs else _evaluate(args))


def _command_line() -> CommandLine:
    cli = CommandLine(__doc__)
    cli.add_run()
    cli.add_path("data_dir", "Where the run's data files are now.", "DIR")
    cli.add_choice(
        "split",
        "Part of the data set; validation is what --validation_examples held out.",
        ("test", "validation"),
    )
    cli.add_levels(
        "noise_stddevs",
        "Also evaluate a model for Gaussian noise at these levels; empty = none. With "
        "--pictures, the levels to evaluate at; by default the run's.",
        [tenths / 10 for tenths in range(1, 11)],
    )
    cli.add_choice(
        "floors",
        "Whether to compute the baselines (needs scikit-image, scikit-learn and, for "
        "whole pictures, PyWavelets and optionally bm3d).",
        ("true", "false"),
    )
    cli.add_path("pictures", "Folder of clean pictures.", "FOLDER")
    cli.add_override(
        "noise_clip",
        "Whether to clip noisy --pictures to [0, 1]; by default as in the run.",
        "true|false",
    )
    cli.add_path(
        "pairs", "Folder of noisy pictures and their clean versions.", "FOLDER"
    )
    cli.add_text("noisy", "How the names of noisy --pairs end.", "SUFFIX")
    cli.add_text("clean", "How the names of clean --pairs end.", "SUFFIX")
    cli.add_switch(
        "ensemble",
        "Average the output over the eight flips and rotations of each picture.",
    )
    cli.add_override(
        "precision",
        "Arithmetic for whole pictures; by default the run's.",
        "float32|mixed_bfloat16|mixed_float16",
    )
    return cli


def _check(args: flags.FlagValues) -> None:
    """Raises UsageError for flags that do not belong together."""
    given = [name for name in ("pictures", "pairs") if args[name].value]
    if len(given) > 1:
        raise UsageError("--pictures contradicts --pairs: give one of them")
    form = given[0] if given else "parts"
    for name, forms in _FORMS.items():
        if args[name].present and form not in forms:
            if given and "parts" in forms:
                raise UsageError(f"--{name} contradicts --{form}")
            users = " or ".join(f"--{user}" for user in forms)
            raise UsageError(f"--{name} is used with {users} only")
    if args.pairs and not (args.noisy and args.clean):
        raise UsageError("--pairs needs --noisy and --clean, the endings of the names")
    if args.pairs and args.noisy == args.clean:
        raise UsageError(f"--noisy={args.noisy} and --clean={args.clean} must differ")


def _evaluate(args: flags.FlagValues) -> str:
    """Evaluates on a part of the data set; returns the table."""
    from aelab.apps.evaluation import evaluate_run, table

    result = evaluate_run(
        args.run_dir,
        checkpoint=args.checkpoint,
        data_dir=args.data_dir,
        noise_stddevs=args.noise_stddevs,
        baselines=args.floors == "true",
        model=args.model,
        split=args.split,
    )
    return table(result)


def _evaluate_whole(args: flags.FlagValues) -> str:
    """Evaluates on whole pictures; returns the table."""
    from aelab.apps.evaluation.evaluate_pictures import (
        Options,
        evaluate_pairs,
        evaluate_pictures,
    )
    from aelab.apps.evaluation.picture_table import picture_table

    options = Options(
        checkpoint=args.checkpoint,
        model=args.model,
        ensemble=args.ensemble,
        precision=args.precision,
        baselines=args.floors == "true",
    )
    if args.pairs:
        pairs = args.pairs, args.noisy, args.clean
        return picture_table(evaluate_pairs(args.run_dir, *pairs, options))
    stddevs = args.noise_stddevs if args["noise_stddevs"].present else None
    result = evaluate_pictures(
        args.run_dir, args.pictures, stddevs, args.noise_clip, options
    )
    return picture_table(result)


if __name__ == "__main__":
    run(main)
