"""What `scripts/study.py` does with its flags."""

import os
import shlex
from typing import Any

from aelab.apps.study.description import (
    Description,
    Trial,
    extend,
    make_description,
    read_description,
)
from aelab.apps.study.study import Options, train_study, write_table
from aelab.apps.study.variants import parse_variants
from aelab.cli import CommandLine
from aelab.config import FIELDS, to_text
from aelab.errors import UsageError
from aelab.metric_info import METRICS
from aelab.system.console import output, say


def run_study(cli: CommandLine, args: Any) -> None:
    """Trains the study that the flags describe, or what they ask for instead.

    Raises:
      UsageError: a bad flag, or the folder holds something else. Nothing is trained.
      TrainingError, Stopped, OSError: see `train_study`.
    """
    folder = args.study_dir
    old = read_description(folder)
    if old is None and os.path.lexists(os.path.join(folder, "config.json")):
        raise UsageError(f"--study_dir={folder} is a run; give a folder of its own")
    new = _describe(cli, args, old)
    description = extend(old, new, folder) if old else new
    options = _options(args, description)
    if args.dry_run:
        for trial in description.trials(folder):
            output(_command(trial))
    elif args.table_only:
        write_table(folder, description, options)
    elif others := train_study(folder, description, options):
        say(f"{others} runs are with other processes; the last to end writes the table")


def _describe(cli: CommandLine, args: Any, old: Description | None) -> Description:
    """The description in the flags; those not given have the study's values."""
    given = cli.given_fields()
    if "seed" in given:
        raise UsageError("--seed: a study sets it itself; --seeds=N is their number")
    if old is None and args.table_only:
        raise UsageError(f"--study_dir={args.study_dir} holds no study")
    variants, seeds = parse_variants(args.vary), args.seeds
    if old:
        given = {**old.config, **given}
        variants = variants if args.vary else list(old.variants)
        seeds = seeds if args["seeds"].present else old.seeds
    for name in ("seeds", "jobs"):
        if not args[name].value:
            raise UsageError(f"--{name} must be at least 1")
    return make_description(given, variants, seeds)


def _options(args: Any, description: Description) -> Options:
    """How the study is trained and shown."""
    names = [variant.name for variant in description.variants]
    baseline = args.baseline or names[0]
    if baseline not in names:
        raise UsageError(
            f"--baseline={baseline} is not a variant; they are {', '.join(names)}"
        )
    metrics = tuple(args.metrics.split(","))
    known = [name for name, row in METRICS.items() if row.function] + ["loss"]
    for name in (*metrics, args.objective):
        if name not in known:
            flag = "metrics" if name in metrics else "objective"
            raise UsageError(
                f"--{flag}: {name!r} is not a metric; they are {', '.join(known)}"
            )
    return Options(
        args.jobs,
        metrics,
        args.objective,
        baseline,
        args.evaluate,
        args.retry_failed,
    )


def _command(trial: Trial) -> str:
    """The command that trains a run by itself."""
    flags = [
        f"--{name}={to_text(value)}"
        for name, field in FIELDS.items()
        if (value := getattr(trial.config, name)) != field.default
    ]
    words = ["scripts/train.py", *flags, f"--run_dir={trial.run_dir}"]
    return shlex.join(words)
