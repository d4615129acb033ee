"""How a study may be extended: by variants, by seeds and by longer runs."""

from aelab.apps.study.description import Description
from aelab.apps.study.ranges import Search
from aelab.config import Config, differences
from aelab.errors import UsageError


def extend(old: Description, new: Description, folder: str) -> Description:
    """`new`, if a study of `old` can continue with it.

    More variants and seeds may be added, and what may change between two calls of
    train.py.

    Raises:
      UsageError: it can't, with the list of differences.
    """
    lines = _search_differences(old.search, new.search)
    if not lines:
        lines = _variant_differences(old, new)
    if new.seeds < old.seeds:
        lines.append(f"--seeds: {old.seeds} -> {new.seeds}")
    if lines:
        raise UsageError(
            f"--study_dir={folder} holds another study; give another folder, or the "
            "same flags. Differences:\n  " + "\n  ".join(lines)
        )
    return new


def _search_differences(old: Search | None, new: Search | None) -> list[str]:
    """The differences between two searches that no study can resume with."""
    samplers = [search.sampler if search else "grid" for search in (old, new)]
    if not old or not new or old.sampler != new.sampler:
        return ["--sampler: " + " -> ".join(samplers)] if old or new else []
    lines = [
        f"--vary: {name}={old.ranges.get(name, '')} -> {new.ranges.get(name, '')}"
        for name in {**old.ranges, **new.ranges}
        if old.ranges.get(name) != new.ranges.get(name)
    ]
    if new.trials < old.trials:
        lines.append(f"--trials: {old.trials} -> {new.trials}")
    return lines


def _variant_differences(old: Description, new: Description) -> list[str]:
    """Variants that are gone, and flags that differ; of a search the flags only."""
    lines: list[str] = []
    before_all, after_all = old.variants, {each.name: each for each in new.variants}
    if old.search:
        corner = next(old.search.corners())
        before_all, after_all = [corner], {corner.name: corner}
    for variant in before_all:
        other = after_all.get(variant.name)
        if other is None:
            lines.append(f"the variant {variant.name} is gone")
            continue
        before, after = old.run_config(variant, 0), new.run_config(other, 0)
        lines += [
            line if line in lines or old.search else f"{variant.name}: {line}"
            for line in dict.fromkeys(
                [
                    *differences(before, after),
                    *_length_differences(before, after, old.uses_tpe),
                ]
            )
        ]
    return lines


def _length_differences(old: Config, new: Config, exact: bool) -> list[str]:
    """The flags by which runs are not known to be at least as long as before.

    With `exact` they must be as long: TPE would compare short runs with longer ones.
    """
    pairs = {n: (getattr(old, n), getattr(new, n)) for n in ("epochs", "train_steps")}
    return [
        f"--{name}: {before} -> {after}"
        for name, (before, after) in pairs.items()
        if after < before or (not before and after) or (exact and after != before)
    ]
