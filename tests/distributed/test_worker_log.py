import subprocess
import sys

import pytest

from aelab.distributed.cluster import Cluster
from aelab.distributed.worker_log import worker_log
from aelab.errors import UsageError

PROGRAM = """
import os, sys
from aelab.distributed.cluster import Cluster
from aelab.distributed.worker_log import worker_log
try:
    with worker_log(Cluster(("a:1", "b:1"), int(sys.argv[1])), sys.argv[2]):
        print("hello", flush=True)
        os.write(2, b"from C++\\n")
        raise ValueError("the reason")
except ValueError as error:
    print(error, file=sys.stderr)
"""


def run_worker(index, run_dir):
    command = [sys.executable, "-c", PROGRAM, str(index), run_dir]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_the_chief_has_no_log(tmp_path):
    chief = run_worker(0, tmp_path / "runs" / "run")
    assert (chief.stdout, chief.stderr) == ("hello\n", "from C++\nthe reason\n")
    assert not (tmp_path / "runs").exists()


def test_another_worker_logs_everything_and_also_shows_the_error(tmp_path):
    worker = run_worker(1, tmp_path / "runs" / "run")
    assert (worker.stdout, worker.stderr) == ("", "the reason\n")
    lines = (tmp_path / "runs" / "run.worker-1.log").read_text().splitlines()
    assert lines[1:] == ["hello", "from C++", "the reason"]


def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    cluster = Cluster(("a:1", "b:1"), 1)
    with (
        pytest.raises(UsageError, match="can't be written"),
        worker_log(cluster, str(tmp_path / "file" / "run")),
    ):
        pass
