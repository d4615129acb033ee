"""Starts TensorFlow for commands that use trained models."""

from aelab.runs.directory import RunDirectory
from aelab.system import startup


def start_for_runs(*run_dirs: str, model: str = "") -> None:
    """Checks that each folder holds a run of the given model; starts TensorFlow.

    Args:
      *run_dirs: the folders. A wrong one is reported before TensorFlow starts.
      model: the value of `--model`, see `RunDirectory.check_model`.

    Raises:
      UsageError: a folder holds no run, its `config.json` is bad, or it needs `model`.
    """
    for run_dir in run_dirs:
        RunDirectory(run_dir).check_model(model)
    startup.start_tensorflow()
