"""The choices of what the table of a study shows, and from which flags they come."""

import dataclasses
from typing import Any

from aelab.apps.study.description import Description
from aelab.apps.study.outputs import Shown
from aelab.apps.study.ranges import trial_name
from aelab.errors import UsageError
from aelab.metric_info import METRICS


def default_shown(description: Description) -> Shown:
    """The metrics of a new study: PSNR and SSIM, or the loss without clean images.

    Without them, nothing may be chosen by metrics that need them.
    """
    if _has_clean_images(description):
        return Shown()
    return Shown(metrics=("loss",), objective="loss")


def _has_clean_images(description: Description) -> bool:
    search = description.search
    variants = search.corners() if search else description.variants
    choices = [description.config, *(variant.flags for variant in variants)]
    return all(choice.get("supervision", "clean") == "clean" for choice in choices)


def choose_shown(args: Any, description: Description, before: Shown) -> Shown:
    """The choices for the table; flags that are not given have the study's values."""
    given: dict[str, Any] = {}
    if args["metrics"].present:
        given["metrics"] = args.metrics.split(",")
    if args["evaluate"].present:
        given["on_test"] = args.evaluate
    for name in ("objective", "baseline"):
        if args[name].present:
            given[name] = getattr(args, name)
    shown = dataclasses.replace(before, **given)
    search = description.search
    names = [variant.name for variant in description.variants]
    if search:
        names = [*map(trial_name, range(search.trials))]
    if search and shown.objective != "loss" and not _has_clean_images(description):
        raise UsageError(
            f"--objective={shown.objective} compares with clean images, and without "
            "them nothing is chosen by it: give --objective=loss"
        )
    if not shown.baseline:
        shown = dataclasses.replace(shown, baseline=names[0])
    if shown.baseline not in names:
        raise UsageError(
            f"--baseline={shown.baseline} is not a variant; they are {', '.join(names)}"
        )
    known = ["loss", *(name for name, row in METRICS.items() if row.function)]
    for flag, metrics in (("metrics", shown.metrics), ("objective", [shown.objective])):
        for name in metrics:
            if name not in known:
                raise UsageError(
                    f"--{flag}: {name!r} is not a metric; they are {', '.join(known)}"
                )
    return shown
