#!/usr/bin/env python3
"""Trains many runs, each with several seeds, and compares them in one table.

scripts/study.py --study_dir=DIR --flagfile=configs/NAME.flags [--FLAG=VALUE ...]
                 [--vary=FLAG=V1,V2,... ...] [--seeds=N] [--jobs=N]
                 [--sampler=grid|random|tpe --trials=N] [--objective=psnr]
                 [--launcher=local|slurm]
                 [--metrics=psnr,...] [--baseline=NAME] [--evaluate]
                 [--retry_failed] [--table_only] [--dry_run]

The same command resumes a study. More values and seeds may be added. Every run is in
runs/NAME/seed-N, and what it prints in its console.txt.
"""

from collections.abc import Sequence

from aelab.cli import CommandLine, run


def main(argv: Sequence[str]) -> None:
    """Parses the command line and trains the study, or shows its table."""
    cli = CommandLine(__doc__)
    cli.add_path("study_dir", "Folder of the study.", "DIR", required=True)
    cli.add_list(
        "vary",
        "Values of a flag; several such flags are a grid. Or @FILE with a line "
        "NAME: --flag=value --flag=value for each variant. A search also takes "
        "FLAG=LOW..HIGH and FLAG=log:LOW..HIGH.",
        "FLAG=V1,V2",
    )
    cli.add_choice(
        "sampler",
        "All combinations, or a search: random values, or Optuna's TPE, which improves "
        "--objective and stops trials below the median.",
        ("grid", "random", "tpe"),
    )
    cli.add_count("trials", "How many variants a search tries.", 0)
    cli.add_count("seeds", "Train each variant with the seeds 0 to N-1.", 1)
    cli.add_count("jobs", "Processes side by side, with equal parts of the cores.", 1)
    cli.add_choice(
        "launcher",
        "Where the processes run: here, or as jobs of Slurm.",
        ("local", "slurm"),
    )
    cli.add_text("metrics", "What the table shows.", "NAME,NAME", "psnr,ssim")
    cli.add_text(
        "objective",
        "What a search goes by and the picture shows; without clean images the loss.",
        "NAME",
        "psnr",
    )
    cli.add_text(
        "baseline", "Variant that the others are compared with; empty = first.", "NAME"
    )
    cli.add_switch("evaluate", "Evaluate the finished runs, and show the test part.")
    cli.add_switch("retry_failed", "Train runs again that have diverged.")
    cli.add_switch("table_only", "Only write the table, from the results so far.")
    cli.add_switch("dry_run", "Only print the command of each run.")
    cli.add_config()
    args = cli.parse(argv)

    from aelab.apps.study.command import run_study

    run_study(cli, args)


if __name__ == "__main__":
    run(main)
