"""The layout of a run directory, and checks on reusing one."""

import contextlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from typing import Any

import aelab
from aelab.config import (
    FORMAT,
    Config,
    differences,
    from_json,
    is_function,
    parse_object,
    to_text,
)
from aelab.errors import UsageError
from aelab.system.files import (
    DISK_ERRORS,
    names_in,
    read_bytes,
    remove_leftovers,
    write_bytes,
    writing,
)
from aelab.system.lock import exclusive_lock

SPLITS = ("train", "eval")
_PACKAGES = ("tensorflow", "keras", "numpy")


class RunDirectory:
    """The paths of a run, and the content of its `config.json`.

    All `read_*` methods raise `UsageError` if the directory holds no run, or its
    `config.json` is bad, and `OSError` if the disk fails.

    Attributes:
      path: the folder itself.
      config_json: the configuration, versions, and fingerprints of the data.
      run_flags: the configuration as a flagfile.
      metrics_jsonl: one line per log entry and evaluation.
      evaluation_json: the result of `scripts/evaluate.py`.
      not_finite_json: the images of a step with a non-finite loss or gradient.
      images: folder of panels as PNG.
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
        """The folder of the checkpoints of a kind, `latest` or `best`."""
        return {"latest": self.latest, "best": self.best}[kind]

    def has_config(self) -> bool:
        """True if the directory has a `config.json`, and so a run."""
        return os.path.lexists(self.config_json)

    def read_config(self) -> Config:
        """The run's configuration."""
        return from_json(self._read_config_json(), self.config_json)

    def check_model(self, model: str) -> None:
        """Checks the value of `--model` against the run's, see `check_model`."""
        check_model(self.read_config().model, model, f"--run_dir={self.path}")

    def read_image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the run's images."""
        shape = self.read_data().get("image_shape")
        if isinstance(shape, list) and len(shape) == 3:
            height, width, channels = shape
            if all(isinstance(size, int) and size > 0 for size in shape):
                return height, width, channels
        raise UsageError(
            f"{self.config_json} must have an image_shape of three sizes, not {shape}"
        )

    def _read_config_json(self) -> str:
        try:
            return read_bytes(self.config_json).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            raise UsageError(f"--run_dir={self.path} holds no run: {error}") from None

    def read_values(self) -> dict[str, Any]:
        """All values in `config.json`, unchecked: fields, data, machine, versions."""
        return parse_object(self._read_config_json(), self.config_json)

    def read_data(self) -> dict[str, Any]:
        """The description of the run's data by `Splits.describe`."""
        return self._read_object("data")

    def read_machine(self) -> dict[str, Any]:
        """The description of the run's last devices by `Distribution.describe`."""
        return self._read_object("machine")

    def read_versions(self) -> dict[str, Any]:
        """The versions that last trained the run: python, tensorflow, keras, ..."""
        return self._read_object("versions")

    def _read_object(self, key: str) -> dict[str, Any]:
        value = self.read_values().get(key)
        return value if isinstance(value, dict) else {}

    def exclusive_lock(self) -> contextlib.AbstractContextManager[None]:
        """Creates the directory, and makes this process its only writer.

        Raises:
          UsageError: another process is writing it, or it can't be written.
          OSError: the disk is full or fails.
        """
        with writing(f"--run_dir={self.path}"):
            os.makedirs(self.path, exist_ok=True)
        return exclusive_lock(os.path.join(self.path, "lock"), f"--run_dir={self.path}")

    def has_results(self) -> bool:
        """True if the directory has metrics or checkpoints."""
        for folder in (self.latest, self.best):
            if any(not name.startswith(".") for name in names_in(folder)):
                return True
        return os.path.exists(self.metrics_jsonl) and bool(
            os.path.getsize(self.metrics_jsonl)
        )

    def check(self, config: Config, data: Mapping[str, Any]) -> None:
        """Checks that `config` may run here. Writes nothing.

        A run that failed before its first checkpoint may be replaced by any other.

        Args:
          config: the run to train.
          data: the fingerprints of its data, see `Splits.describe`.

        Raises:
          UsageError: the directory holds a run whose configuration or data differ in
            something that changes the numbers, or parts of a run without its
            `config.json`.
        """
        if self.has_config():
            before = self.read_config()
            if self.has_results():
                self._check_same(before, config, data)
        elif leftovers := [path for path in self._results() if os.path.lexists(path)]:
            raise UsageError(
                f"--run_dir={self.path} has {leftovers[0]} but no config.json: "
                "give a new directory, or move its content away"
            )

    def write(
        self, config: Config, data: Mapping[str, Any], machine: Mapping[str, Any]
    ) -> None:
        """Creates the directory and its folders; writes `config.json` and `run.flags`.

        Args:
          config: the run to train.
          data: the fingerprints of its data, see `Splits.describe`.
          machine: its devices, see `Distribution.describe`.

        Raises:
          UsageError: the directory can't be written.
          OSError: the disk is full or fails.
        """
        content = asdict(config) | {
            "format": FORMAT,
            "data": dict(data),
            "machine": dict(machine),
            "versions": package_versions(),
        }
        with writing(f"--run_dir={self.path}"):
            os.makedirs(self.path, exist_ok=True)
            # Written first: without it the directory would be treated as foreign.
            text = json.dumps(content, indent=2) + "\n"
            write_bytes(self.config_json, text.encode())
            flags = _flagfile(config, self.path)
            write_bytes(self.run_flags, flags.encode(errors="surrogateescape"))
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

    def _check_same(
        self, before: Config, config: Config, data: Mapping[str, Any]
    ) -> None:
        lines = differences(before, config)
        old = self.read_data()
        lines += [
            f"{name} data: {old.get(name)} -> {value}"
            for name, value in data.items()
            if old.get(name) != value
        ]
        if lines:
            raise UsageError(
                f"--run_dir={self.path} holds a run of another configuration; give "
                "another directory, or the same configuration. Differences:\n  "
                + "\n  ".join(lines)
            )


def check_model(trained: str, model: str, place: str) -> None:
    """Checks that the code of a model outside of aelab runs on request only.

    Building such a model imports its module, and so runs its code.

    Args:
      trained: the model that `place` names, for example a run directory.
      model: the value of `--model`; "" if it was not given.
      place: for the message.

    Raises:
      UsageError: `trained` is not built in and `model` is not the same, or `model` is
        another one.
    """
    if is_function(trained) and model != trained:
        raise UsageError(
            f"{place} has a model that is not a part of aelab, so its code runs only "
            f"on request: give --model={trained}"
        )
    if model and model != trained:
        raise UsageError(f"--model={model} contradicts {place}: --model={trained}")


def package_versions() -> dict[str, str]:
    """The versions of Python, aelab and the packages that compute the numbers."""
    versions = {"python": platform.python_version(), "aelab": aelab.__version__}
    return versions | {name: metadata.version(name) for name in _PACKAGES}


def _flagfile(config: Config, run_dir: str) -> str:
    """The content of a flagfile with all fields of `config`, and `run_dir`."""
    lines = [f"--{name}={to_text(value)}" for name, value in asdict(config).items()]
    return "\n".join([*lines, f"--run_dir={os.path.abspath(run_dir)}", ""])
