import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from conftest import ROOT

from aelab.distributed.cluster import Cluster
from aelab.errors import UsageError
from aelab.system import console
from aelab.system.console import Console, metrics_text, worker_log


def test_figures_have_the_digits_they_deserve():
    figures = {"loss": 0.29811, "psnr": 16.5249, "images_per_second": 12345.6}
    expected = "loss 0.2981  psnr 16.52  images_per_second 12,346"
    assert metrics_text(figures) == expected


def test_plain_lines_without_a_terminal(capsys):
    with Console(0, 100) as plain:
        plain.progress(10, lambda: "loss 1")
        plain.line("evaluated")
        plain.progress(20, lambda: "loss 0.5")
    assert capsys.readouterr() == ("evaluated\n", "")


def test_long_silence_is_broken_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(console, "_QUIET_SECONDS", 0.0)
    with Console(0, 100) as plain:
        plain.progress(10, lambda: "loss 1")
    assert capsys.readouterr() == ("step 10/100  loss 1\n", "")


def test_a_full_disk_behind_standard_output_warns_once(monkeypatch, capsys):
    with open("/dev/full", "w") as full, Console(0, 100) as plain:
        monkeypatch.setattr(console.sys, "stdout", full)
        plain.line("evaluated")
        plain.line("evaluated")
        monkeypatch.undo()
        with contextlib.suppress(OSError):  # what is left in the buffer
            full.close()
    (warning,) = capsys.readouterr().err.splitlines()
    assert "can't write to standard output: [Errno 28]" in warning


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """What a terminal shows of a run, escape sequences and all."""
    run_dir = tmp_path_factory.mktemp("console") / "run"
    command = [
        *(sys.executable, str(ROOT / "scripts/train.py"), f"--run_dir={run_dir}"),
        *("--model=dense", "--train_examples=4000", "--eval_examples=100"),
        *("--batch_size=5", "--epochs=2", "--log_every_steps=0", "--noise_stddev=0.5"),
    ]
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with subprocess.Popen(command, stdout=follower, stderr=follower) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                chunk = os.read(leader, 4096)
            except OSError:  # the terminal's last user is gone
                break
            if not chunk:
                break
            shown += chunk
    os.close(leader)
    assert process.returncode == 0
    return shown.decode()


def test_a_bar_with_eta_and_figures_on_a_terminal(screen):
    bars = re.findall(
        r"(\d+)%\|[^|]*\| (\d+)/1600 \[[\d:]+<([\d:]+),[^\]]*loss 0", screen
    )
    assert len(bars) > 2
    done = [int(step) for _, step, _ in bars]
    assert done == sorted(done)
    assert 0 < done[0] < done[-1] == 1600


def test_a_terminal_shows_the_summary_and_both_evaluations(screen):
    assert 'Model: "dense"' in screen
    assert "Total params: 50,992" in re.sub(r"\x1b\[[\d;]*m", "", screen)
    for step in (800, 1600):
        assert re.search(rf"step {step}/1600  train loss 0\.\d+ .*eval loss", screen)


@pytest.mark.parametrize("word", ["Warning", "WARNING", "oneDNN", "cuda", "Traceback"])
def test_a_terminal_is_calm(screen, word):
    assert word not in screen


LOG = """
import os, sys
from aelab.distributed.cluster import Cluster
from aelab.system.console import worker_log
try:
    with worker_log(Cluster(("a:1", "b:1"), int(sys.argv[1])), sys.argv[2]):
        print("hello", flush=True)
        os.write(2, b"from C++\\n")
        raise ValueError("what is wrong")
except ValueError as error:
    print(error, file=sys.stderr)
"""


@pytest.mark.parametrize("index", [0, 1])
def test_the_log_of_a_worker(tmp_path, index):
    """Holds all it says; an error is also for who started it."""
    command = [sys.executable, "-c", LOG, str(index), tmp_path / "runs" / "run"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    log = tmp_path / "runs" / "run.worker-1.log"
    if index == 0:
        assert found.stdout == "hello\n"
        assert found.stderr == "from C++\nwhat is wrong\n"
        assert not log.exists()
    else:
        assert (found.stdout, found.stderr) == ("", "what is wrong\n")
        assert log.read_text().splitlines()[1:] == [
            "hello",
            "from C++",
            "what is wrong",
        ]


def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    cluster = Cluster(("a:1", "b:1"), 1)
    with (
        pytest.raises(UsageError, match="can't be written"),
        worker_log(cluster, str(tmp_path / "file" / "run")),
    ):
        pass
