import pytest

from aelab.config import Config
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.runs.start import start_for_runs


@pytest.fixture
def starts(monkeypatch):
    """One entry per start of TensorFlow, which is not executed."""
    starts = []
    monkeypatch.setattr(
        "aelab.system.startup.start_tensorflow", lambda: starts.append(True)
    )
    return starts


def test_tensorflow_starts_once_for_all_runs(tmp_path, starts):
    folders = [str(tmp_path / name) for name in "ab"]
    for folder in folders:
        RunDirectory(folder).write(Config(), {}, {})
    start_for_runs(*folders)
    assert starts == [True]


def test_a_folder_without_a_run_is_named_before_the_start(tmp_path, starts):
    RunDirectory(str(tmp_path / "a")).write(Config(), {}, {})
    with pytest.raises(UsageError, match=f"--run_dir={tmp_path}/b holds no run"):
        start_for_runs(str(tmp_path / "a"), str(tmp_path / "b"))
    assert starts == []
