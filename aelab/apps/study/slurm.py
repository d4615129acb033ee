"""Sends a study to Slurm: an array of jobs that divide its runs between them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from aelab.errors import UsageError
from aelab.system.optional import require

_MINUTES = 60  # of a job, which Slurm then starts again; SBATCH_TIMELIMIT overrides it
_SAVE_SECONDS = 90  # between Slurm's warning and the end of a job
_GRACE_SECONDS = 600  # at most; then Slurm ends the job
_POLL_SECONDS = 0.2
_MAX_RESTARTS = 1000


class Share:
    """The work of one job: a `study.py` of its own, with one process for runs."""

    def __init__(self, arguments: Sequence[str]):
        """Takes the arguments of `scripts/study.py`."""
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Trains runs until none is left that no other job trains."""
        script = os.path.join("scripts", "study.py")
        self._process = subprocess.Popen(
            [sys.executable, script, *self._arguments],
            preexec_fn=_ignore_warning,
        )
        # `checkpoint` runs in a signal handler, which must not interrupt `wait`.
        while not _has_ended(self._process.pid):
            time.sleep(_POLL_SECONDS)
        code = self._process.wait()
        if code == 128 + signal.SIGTERM:
            # All is saved. If Slurm preempts the job, it starts it again after this
            # grace period; if somebody has cancelled it, not.
            time.sleep(_GRACE_SECONDS)
        if code:
            raise RuntimeError(f"{script} ended with exit code {code}; see its output")

    def checkpoint(self) -> Any:
        """Called before a job is preempted or its time is over: saves its run."""
        if self._process:
            self._process.terminate()
            while not _has_ended(self._process.pid):
                time.sleep(_POLL_SECONDS)
        submitit = require("submitit", extra="study")
        return submitit.helpers.DelayedSubmission(Share(self._arguments))


def _ignore_warning() -> None:
    """Leaves the signal with which Slurm warns of the end of a job to submitit."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _has_ended(process: int) -> bool:
    """Whether a child has ended; it is not reaped."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process, flags) is not None


def submit(folder: str, jobs: int, flags: Sequence[str]) -> list[str]:
    """Sends `jobs` jobs for the study in `folder`; returns their numbers.

    Args:
      folder: the study, with its `study.json`.
      jobs: how many jobs share its runs.
      flags: further arguments of `scripts/study.py`.

    Raises:
      UsageError: submitit is not installed, or Slurm does not take the jobs.
    """
    submitit = require("submitit", extra="study")
    try:
        executor = submitit.AutoExecutor(
            folder=os.path.join(folder, "slurm"),
            cluster="slurm",
            slurm_max_num_timeout=_MAX_RESTARTS,
        )
        executor.update_parameters(
            name="aelab-study",
            timeout_min=_MINUTES,
            slurm_signal_delay_s=_SAVE_SECONDS,
        )
        share = Share([f"--study_dir={folder}", *flags])
        with executor.batch():
            sent = [executor.submit(share) for _ in range(jobs)]
        return [str(job.job_id) for job in sent]
    except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
        raise UsageError(f"--launcher=slurm: Slurm takes no jobs: {error}") from None
