"""A run directory: what lies where, and whether a configuration may go on in it."""

import contextlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from typing import Any

import aelab
from aelab.config import Config, differences, from_json, parse_object
from aelab.errors import UsageError
from aelab.system.files import remove_leftovers, write_bytes, writing
from aelab.system.lock import exclusive_lock

SPLITS = ("train", "eval")
_PACKAGES = ("tensorflow", "keras", "numpy")


class RunDirectory:
    """The paths of a run.

    Attributes:
      path: the folder itself.
      config_json: every field of the configuration, versions, the data's fingerprints.
      run_flags: the configuration as a flagfile.
      metrics_jsonl: a line for each training and evaluation figure.
      evaluation_json: what `scripts/evaluate.py` found.
      not_finite_json: which images a step had whose loss or gradient was not finite.
      images: panels as PNG.
      latest, best: folders of checkpoints.
      tensorboard: folder of event files.
    """

    def __init__(self, path: str):
        self.path = path
        self.config_json = os.path.join(path, "config.json")
        self.run_flags = os.path.join(path, "run.flags")
        self.metrics_jsonl = os.path.join(path, "metrics.jsonl")
        self.evaluation_json = os.path.join(path, "evaluation.json")
        self.not_finite_json = os.path.join(path, "not_finite.json")
        self.images = os.path.join(path, "images")
        self.latest = os.path.join(path, "checkpoints", "latest")
        self.best = os.path.join(path, "checkpoints", "best")
        self.tensorboard = os.path.join(path, "tensorboard")

    def checkpoints(self, kind: str) -> str:
        """The folder of the `latest` or the `best` checkpoint."""
        return {"latest": self.latest, "best": self.best}[kind]

    def read_config(self) -> Config:
        """The run's configuration.

        Raises:
          UsageError: the directory holds no run, or its `config.json` is bad.
        """
        return from_json(self._read_config_json(), self.config_json)

    def read_image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the run's images.

        Raises:
          UsageError: the directory holds no run, or its `config.json` is bad.
        """
        shape = self.read_data().get("image_shape")
        if isinstance(shape, list) and len(shape) == 3:
            height, width, channels = shape
            if all(isinstance(size, int) and size > 0 for size in shape):
                return height, width, channels
        raise UsageError(
            f"{self.config_json} has no image shape of three sizes, but {shape}"
        )

    def _read_config_json(self) -> str:
        try:
            with open(self.config_json, encoding="utf-8") as file:
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--run_dir={self.path} holds no run: {error}") from None

    def read_values(self) -> dict[str, Any]:
        """All that `config.json` holds, unchecked: fields, data, machine, versions.

        Raises:
          UsageError: the directory holds no run, or its `config.json` is no object.
        """
        return parse_object(self._read_config_json(), self.config_json)

    def read_data(self) -> dict[str, Any]:
        """What `Splits.describe` said of the run's data.

        Raises:
          UsageError: the directory holds no run, or its `config.json` is bad.
        """
        return self._read_object("data")

    def read_machine(self) -> dict[str, Any]:
        """What `Distribution.describe` said of what the run was last trained on.

        Raises:
          UsageError: the directory holds no run, or its `config.json` is bad.
        """
        return self._read_object("machine")

    def _read_object(self, key: str) -> dict[str, Any]:
        value = self.read_values().get(key)
        return value if isinstance(value, dict) else {}

    def exclusive_lock(self) -> contextlib.AbstractContextManager[None]:
        """Makes the directory, and this process the only one to write it.

        Raises:
          UsageError: another process writes it, or it can't be written.
          OSError: the disk is full or fails.
        """
        with self._writing():
            os.makedirs(self.path, exist_ok=True)
        return exclusive_lock(os.path.join(self.path, "lock"), f"--run_dir={self.path}")

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing(f"--run_dir={self.path}")

    def has_results(self) -> bool:
        """Whether a run has left figures or checkpoints here."""
        for folder in (self.latest, self.best):
            names = os.listdir(folder) if os.path.isdir(folder) else []
            if any(not name.startswith(".") for name in names):
                return True
        return os.path.exists(self.metrics_jsonl) and bool(
            os.path.getsize(self.metrics_jsonl)
        )

    def check(self, config: Config, data: Mapping[str, Any]) -> None:
        """Checks that `config` may run here; writes nothing.

        Args:
          config: what is to run.
          data: what tells its data from others, see `Splits.describe`.

        Raises:
          UsageError: the directory holds a run whose configuration or data differ in
            something that changes the numbers, or parts of a run without its
            `config.json`.
        """
        if os.path.lexists(self.config_json):
            self._check_same(config, data)
        elif strays := [p for p in self._results() if os.path.lexists(p)]:
            raise UsageError(
                f"--run_dir={self.path} has {strays[0]} but no config.json: "
                "give a new directory, or move what is there away"
            )

    def write(
        self, config: Config, data: Mapping[str, Any], machine: Mapping[str, Any]
    ) -> None:
        """Makes the directory and its folders, writes `config.json` and `run.flags`.

        Args:
          config: what is to run.
          data: what tells its data from others, see `Splits.describe`.
          machine: what it runs on, see `Distribution.describe`.

        Raises:
          UsageError: the directory can't be written.
          OSError: the disk is full or fails.
        """
        versions = {"python": platform.python_version(), "aelab": aelab.__version__}
        versions |= {name: metadata.version(name) for name in _PACKAGES}
        content = asdict(config) | {
            "data": dict(data),
            "machine": dict(machine),
            "versions": versions,
        }
        with self._writing():
            os.makedirs(self.path, exist_ok=True)
            # First of all, as without it the rest would be taken for somebody else's.
            text = json.dumps(content, indent=2) + "\n"
            write_bytes(self.config_json, text.encode())
            write_bytes(self.run_flags, _flagfile(config, self.path).encode())
            events = [os.path.join(self.tensorboard, name) for name in SPLITS]
            for folder in (self.images, self.latest, self.best, *events):
                os.makedirs(folder, exist_ok=True)
            for folder in (self.images, self.latest, self.best):
                remove_leftovers(folder)
            open(self.metrics_jsonl, "ab").close()

    def _results(self) -> list[str]:
        checkpoints = os.path.dirname(self.latest)
        files = [self.metrics_jsonl, self.run_flags]
        return [*files, checkpoints, self.tensorboard, self.images]

    def _check_same(self, config: Config, data: Mapping[str, Any]) -> None:
        lines = differences(self.read_config(), config)
        old = self.read_data()
        lines += [
            f"{name} data: {old.get(name)} -> {value}"
            for name, value in data.items()
            if old.get(name) != value
        ]
        if lines:
            raise UsageError(
                f"--run_dir={self.path} holds a run of another configuration; give "
                "another directory, or the same configuration. What differs:\n  "
                + "\n  ".join(lines)
            )


def _flagfile(config: Config, run_dir: str) -> str:
    """A flagfile that runs `config` again, in `run_dir` unless told otherwise."""
    lines = [f"--{name}={value}" for name, value in asdict(config).items()]
    return "\n".join([*lines, f"--run_dir={os.path.abspath(run_dir)}", ""])
