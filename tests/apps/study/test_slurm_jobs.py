import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from aelab.apps.study import slurm
from aelab.apps.study.slurm import Share, submit
from aelab.errors import UsageError


@pytest.fixture
def script(tmp_path, monkeypatch):
    """`script(text)` is what a job runs instead of study.py."""

    def write(text):
        (tmp_path / "scripts").mkdir()
        (tmp_path / "scripts" / "study.py").write_text(text)
        monkeypatch.chdir(tmp_path)

    return write


def test_a_job_runs_the_script_with_its_arguments(script, tmp_path):
    script("import sys; open('seen', 'w').write(' '.join(sys.argv[1:]))")
    Share(["--study_dir=a b", "--evaluate"])()
    assert (tmp_path / "seen").read_text() == "--study_dir=a b --evaluate"


def test_a_job_whose_script_fails_has_failed(script):
    script("raise SystemExit(2)")
    with pytest.raises(RuntimeError, match="exit code 2"):
        Share([])()


def test_a_job_that_is_stopped_leaves_the_decision_to_slurm(script, monkeypatch):
    """It waits until Slurm ends it: to start it again, or because it is cancelled."""
    script("raise SystemExit(143)")
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    with pytest.raises(RuntimeError, match="exit code 143"):
        Share([])()
    assert waited[-1] == slurm._GRACE_SECONDS


def test_a_job_whose_time_is_over_saves_and_begins_again(script):
    submitit = pytest.importorskip("submitit")
    script("import signal; print('ready', flush=True); signal.pause()")
    share = Share(["--study_dir=x"])
    share._process = subprocess.Popen(
        [sys.executable, "scripts/study.py"], stdout=subprocess.PIPE
    )
    with share._process.stdout as output:
        output.readline()
    again = share.checkpoint()
    assert share._process.wait() == -signal.SIGTERM
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function._arguments == ["--study_dir=x"]


def test_a_warning_from_slurm_during_the_wait_ends_the_script(script):
    """submitit calls `checkpoint` in a handler, while the job waits for its script."""
    pytest.importorskip("submitit")
    script("import signal; signal.pause()")
    share, again = Share([]), []
    before = signal.signal(signal.SIGUSR2, lambda *_: again.append(share.checkpoint()))
    timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGUSR2))
    try:
        timer.start()
        with pytest.raises(RuntimeError, match="exit code -15"):
            share()
    finally:
        signal.signal(signal.SIGUSR2, before)
        timer.join()
    assert len(again) == 1


def test_without_slurm_the_jobs_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="--launcher=slurm: Slurm takes no jobs"):
        submit(str(tmp_path / "study"), 2, [])
