"""Starts TensorFlow for commands that use trained models."""

from aelab.runs.directory import RunDirectory
from aelab.system import startup


def start_for_runs(*run_dirs: str) -> None:
    """Checks that each folder holds a run, and then starts TensorFlow.

    A wrong folder is therefore reported at once.

    Raises:
      UsageError: a folder holds no run, or its `config.json` is bad.
    """
    for run_dir in run_dirs:
        RunDirectory(run_dir).read_config()
    startup.start_tensorflow()
