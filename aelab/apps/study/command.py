"""The command `scripts/study.py`: from its flags to a study."""

import contextlib
import os
import shlex
from typing import Any

from aelab.apps.study.description import (
    Description,
    Trial,
    make_description,
    read_description,
)
from aelab.apps.study.extension import extend
from aelab.apps.study.outputs import (
    Shown,
    read_shown,
    write_description,
    write_results,
)
from aelab.apps.study.ranges import (
    GRID,
    Search,
    check_is_grid,
    parse_search,
)
from aelab.apps.study.shown import choose_shown, default_shown
from aelab.apps.study.slurm import submit
from aelab.apps.study.study import Work, read_results, train_study, with_trials
from aelab.apps.study.variants import Variant, check_module, parse_variants
from aelab.cli import CommandLine
from aelab.config import FIELDS, Config, to_text
from aelab.errors import TrainingError, UsageError
from aelab.system.console import output, say
from aelab.system.files import writing
from aelab.system.lock import exclusive_lock
from aelab.system.optional import require


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
    before = read_shown(folder) if old else default_shown(description)
    shown = choose_shown(args, description, before)
    if old and description.uses_tpe and shown.objective != before.objective:
        raise UsageError(
            f"--objective={shown.objective}: the search in {folder} goes by "
            f"{before.objective}; give another folder"
        )
    if args.dry_run:
        if description.uses_tpe:
            raise UsageError("--dry_run: the values that tpe tries depend on results")
        for trial in description.trials(folder):
            output(_command(trial))
        return
    if not args.table_only:
        search = description.search
        for variant in search.corners() if search else description.variants:
            config = description.run_config(variant, 0)
            check_module(variant.name, config.model)
            if args.evaluate:
                _check_can_evaluate(config)
    for library in ("scipy", "matplotlib", *["optuna"] * description.uses_tpe):
        require(library, extra="study")
    if args.launcher == "slurm" and not args.table_only:
        if description.uses_tpe:
            raise UsageError(
                "--launcher=slurm contradicts --sampler=tpe, a search in one process"
            )
        write_description(folder, description, shown)
        return _submit(args)
    with contextlib.ExitStack() as stack:
        if description.uses_tpe and not args.table_only:
            stack.enter_context(_only_search(folder))
        _train(folder, description, shown, args)


def _check_can_evaluate(config: Config) -> None:
    """Raises UsageError if `--evaluate` would fail once the run is trained."""
    if config.dataset == "images" and not config.test_share:
        raise UsageError(
            "--evaluate contradicts --test_share=0, which leaves no test part; "
            "scripts/evaluate.py --pictures=FOLDER evaluates a run on other pictures"
        )
    if not config.has_clean_images:
        raise UsageError(
            "--evaluate contradicts --corruption=none: the test images are noisy; "
            "scripts/evaluate.py takes --pictures=FOLDER or --pairs=FOLDER"
        )


def _only_search(folder: str) -> contextlib.AbstractContextManager[None]:
    """Makes this process the only one that runs the search in a folder.

    Raises:
      BusyError: another process does.
    """
    given = f"--study_dir={folder}"
    with writing(given):
        os.makedirs(folder, exist_ok=True)
    return exclusive_lock(os.path.join(folder, "lock"), given)


def _train(folder: str, description: Description, shown: Shown, args: Any) -> None:
    """Trains a study unless only its table is wanted, and writes its files."""
    write_description(folder, with_trials(folder, description), shown)
    others = 0
    try:
        if not args.table_only:
            # Of a search the test part is looked at only by a command that asks for it.
            evaluate = args.evaluate if description.search else shown.on_test
            work = Work(args.jobs, evaluate, args.retry_failed, shown.objective)
            others = train_study(folder, description, work)
    except TrainingError:
        with contextlib.suppress(UsageError):  # the failures are what counts
            _write_results(folder)
        raise
    if others:
        say(f"Other processes train {others} runs; the last to finish writes the table")
    else:
        _write_results(folder)


def _submit(args: Any) -> None:
    """Sends the study to Slurm."""
    folder = os.path.abspath(args.study_dir)
    names = ("evaluate", "retry_failed")
    flags = [f"--{name}" for name in names if getattr(args, name)]
    numbers = submit(folder, args.jobs, flags)
    say(
        f"Sent       {len(numbers)} jobs: {', '.join(numbers)}; squeue shows them\n"
        f"Output     {os.path.join(folder, 'slurm')}\n"
        "The last job to end writes the table; --table_only shows what is there"
    )


def _write_results(folder: str) -> None:
    """Writes the table of what is there, and prints it.

    Of the description in the folder, which another command may have extended.
    """
    description, shown = read_description(folder), read_shown(folder)
    if description is None:
        raise UsageError(f"--study_dir={folder} no longer holds a study")
    description = with_trials(folder, description)
    if not description.variants:
        say("No trial has begun")
        return
    found = read_results(folder, description)
    say("\n" + write_results(folder, description, shown, found))
    files = ("table.md", "table.csv", "table.tex", "plot.png")
    say("Table      " + ", ".join(os.path.join(folder, name) for name in files))


def _describe(cli: CommandLine, args: Any, old: Description | None) -> Description:
    """The description in the flags; those not given have the study's values."""
    given = cli.given_fields()
    if "seed" in given:
        raise UsageError("--seed: a study sets it; --seeds=N trains the seeds 0 to N-1")
    if old is None and args.table_only:
        raise UsageError(f"--study_dir={args.study_dir} holds no study")
    search = _search(args, old)
    variants: list[Variant] = []
    if search is None:
        check_is_grid(args.vary)
        if old and not args.vary:
            variants = list(old.variants)
        else:
            variants = parse_variants(args.vary)
    seeds = args.seeds
    if old:
        given = {**old.config, **given}
        seeds = seeds if args["seeds"].present else old.seeds
    for name in ("seeds", "jobs"):
        if not args[name].value:
            raise UsageError(f"--{name} must be at least 1")
    return make_description(given, variants, seeds, search)


def _search(args: Any, old: Description | None) -> Search | None:
    """The search in the flags; those not given have the study's values."""
    before = old.search if old else None
    sampler = args.sampler
    if before and not args["sampler"].present:
        sampler = before.sampler
    if sampler == GRID:
        if args["trials"].present:
            raise UsageError("--trials needs --sampler=random or tpe")
        return None
    trials = args.trials
    if before and not args["trials"].present:
        trials = before.trials
    if not trials:
        raise UsageError(f"--sampler={sampler} needs --trials=N, at least 1")
    given = args.vary
    if before and not given:
        given = [f"{name}={each}" for name, each in before.ranges.items()]
    return parse_search(sampler, given, trials)


def _command(trial: Trial) -> str:
    """The command that trains a run by itself."""
    flags = [
        f"--{name}={to_text(value)}"
        for name, field in FIELDS.items()
        if (value := getattr(trial.config, name)) != field.default
    ]
    words = ["scripts/train.py", *flags, f"--run_dir={trial.run_dir}"]
    return shlex.join(words)
