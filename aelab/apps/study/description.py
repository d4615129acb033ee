"""The description of a study: its variants, its seeds, and where `study.json` is."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from aelab.apps.study.ranges import RANDOM, TPE, Search, parse_search
from aelab.apps.study.variants import Variant, is_safe
from aelab.config import FIELDS, Config, check_format, parse_object
from aelab.config.fields import Value
from aelab.errors import UsageError
from aelab.system.files import DISK_ERRORS, read_bytes

STUDY_JSON = "study.json"


class Trial(NamedTuple):
    """A run of a study: a variant with a seed."""

    variant: str
    seed: int
    config: Config
    run_dir: str


@dataclass(frozen=True)
class Description:
    """The choices of a study.

    Attributes:
      config: the fields of `Config` that all variants share, without `seed`.
      variants: what each variant sets, in the order of the table.
      seeds: each variant is trained with the seeds 0 to `seeds` - 1.
      search: where the variants come from, if they are not given. With TPE they are
        the trials that have begun.
    """

    config: Mapping[str, Value]
    variants: Sequence[Variant]
    seeds: int
    search: Search | None = None

    @property
    def uses_tpe(self) -> bool:
        """Whether the variants are in Optuna's journal."""
        return self.search is not None and self.search.sampler == TPE

    def trials(self, folder: str) -> Iterator[Trial]:
        """All runs: the first seed of each variant, then the second, and so on."""
        for seed in range(self.seeds):
            for variant in self.variants:
                path = os.path.join(folder, "runs", variant.name, f"seed-{seed}")
                yield Trial(variant.name, seed, self.run_config(variant, seed), path)

    def run_config(self, variant: Variant, seed: int) -> Config:
        """The configuration of a run.

        Raises:
          UsageError: the variant's values contradict each other or the others.
        """
        values: Any = {**self.config, **variant.flags, "seed": seed}
        try:
            return Config(**values)
        except UsageError as error:
            raise UsageError(f"variant {variant.name}: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """The value of `description` in `study.json`."""
        variants = [variant._asdict() for variant in self.variants]
        return {
            "config": dict(self.config),
            "variants": variants,
            "seeds": self.seeds,
            **({"search": self.search.to_json()} if self.search else {}),
        }


def make_description(
    given: Mapping[str, Value],
    variants: Sequence[Variant],
    seeds: int,
    search: Search | None = None,
) -> Description:
    """The description of a new study; all its runs are checked.

    Args:
      given: the fields of `Config` that the command line sets for all variants.
      variants: at least one, unless there is a search.
      seeds: at least 1.
      search: where the variants come from; all corners of its ranges are checked.

    Raises:
      UsageError: the study would set a field itself, or a run's values contradict each
        other.
    """
    if "seed" in given:
        raise UsageError("a study sets --seed itself: give --seeds=N, their number")
    config: dict[str, Any] = {name: field.default for name, field in FIELDS.items()}
    config |= given
    del config["seed"]
    if search and search.sampler == RANDOM:
        variants = search.random_variants()
    description = Description(config, list(variants), seeds, search)
    for variant in search.corners() if search else ():
        description.run_config(variant, 0)
    configs: dict[Config, str] = {}
    for variant in description.variants:
        trained = description.run_config(variant, 0)
        if trained.train_steps:  # instead of epochs
            trained = replace(trained, epochs=1)
        other = configs.setdefault(trained, variant.name)
        if other != variant.name and not search:
            raise UsageError(
                f"--vary: the variants {other} and {variant.name} train the same runs"
            )
    return description


def read_study_json(folder: str) -> dict[str, Any] | None:
    """The values in the `study.json` of a folder; None if there is none.

    Raises:
      UsageError: it can't be read, holds no JSON object, or is of a later format.
      OSError: the disk fails.
    """
    path = os.path.join(folder, STUDY_JSON)
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        raise UsageError(f"{path} can't be read: {error}") from None
    values = parse_object(text, path)
    check_format(values.get("format", 1), path)
    return values


def read_description(folder: str) -> Description | None:
    """The description of the study in a folder; None if there is none.

    Raises:
      UsageError: `study.json` is bad or of a later format.
    """
    values = read_study_json(folder)
    if values is None:
        return None
    path = os.path.join(folder, STUDY_JSON)
    try:
        found = values["description"]
        variants = [
            Variant(str(v["name"]), dict(v["flags"])) for v in found["variants"]
        ]
        config, seeds = dict(found["config"]), int(found["seeds"])
        search = _read_search(found["search"]) if "search" in found else None
        names = [variant.name for variant in variants]
        if len(set(names)) < len(names) or not all(map(is_safe, names)):
            raise ValueError("the names of its variants are not distinct and safe")
        if seeds < 1 or not (variants or search):
            raise ValueError("it has no runs")
    except UsageError as error:
        raise UsageError(f"{path} describes no search: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} describes no study: {error!r}") from None
    # As in a run's file: a field that is not named has the value that it had then.
    earlier = {name: field.metadata["earlier"] for name, field in FIELDS.items()}
    del earlier["seed"]
    used = {*config}.union(*(variant.flags for variant in variants))
    if unknown := sorted(used - earlier.keys()):
        raise UsageError(
            f"{path} has fields that this release of aelab does not know: "
            f"{', '.join(unknown)}"
        )
    return Description(earlier | config, variants, seeds, search)


def _read_search(values: Mapping[str, Any]) -> Search:
    """The search of a description in `study.json`."""
    given = [f"{name}={text}" for name, text in values["ranges"].items()]
    return parse_search(str(values["sampler"]), given, int(values["trials"]))
