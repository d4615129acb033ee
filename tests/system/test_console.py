import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading

import pytest

from aelab.config import Config
from aelab.system import console
from aelab.system.console import Console, metrics_text
from aelab.system.startup import redirect_fds
from aelab.training.run import train_and_evaluate


def test_each_metric_has_its_own_digits():
    metrics = {"loss": 0.29811, "psnr": 16.5249, "images_per_second": 12345.6}
    expected = "loss 0.2981  psnr 16.52  images_per_second 12,346"
    assert metrics_text(metrics) == expected


def test_plain_lines_without_a_terminal(capsys):
    with Console(0, 100) as plain:
        plain.progress(10, lambda: "loss 1")
        plain.line("evaluated")
        plain.progress(20, lambda: "loss 0.5")
    assert capsys.readouterr() == ("evaluated\n", "")


def test_a_long_silence_is_broken_without_a_terminal(capsys, monkeypatch):
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
        with contextlib.suppress(OSError):  # the rest of the buffer
            full.close()
    (warning,) = capsys.readouterr().err.splitlines()
    assert "[Errno 28] No space left on device: 'standard output'" in warning


def read_all(descriptor, chunks):
    """Appends the content of a terminal to `chunks` until its last user is gone."""
    with contextlib.suppress(OSError):
        while chunk := os.read(descriptor, 4096):
            chunks.append(chunk)


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """The output of a run on a terminal, including escape sequences."""
    config = Config(
        model="dense",
        train_examples=2000,
        eval_examples=100,
        batch_size=5,
        epochs=2,
        log_every_steps=0,
        noise_stddev=0.5,
    )
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    chunks = []
    reader = threading.Thread(target=read_all, args=(leader, chunks))
    reader.start()
    with (
        pytest.MonkeyPatch.context() as patch,
        open(follower, "wb") as raw,
        open(os.dup(follower), "w") as terminal,
    ):
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, terminal)
        patch.setattr(console, "_DRAW_SECONDS", 0.01)
        with redirect_fds((1, 2), raw):
            train_and_evaluate(config, str(tmp_path_factory.mktemp("console") / "run"))
    reader.join()
    os.close(leader)
    return b"".join(chunks).decode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b/Ä ß/日本 'c' \\n.png", "a b/Ä ß/日本 'c' \\n.png"),
        ("a\n\x1b[31m\t\x7f\u202e", r"a\n\x1b[31m\t\x7f\u202e"),
        (os.fsdecode(b"a\xff"), r"a\udcff"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text, shown, capsys):
    assert console.printable(text) == shown == console.printable(shown)
    console.warn(text)
    assert capsys.readouterr().err == f"warning: {shown}\n"


def test_a_terminal_shows_a_bar_with_eta_and_metrics(screen):
    bars = re.findall(
        r"(\d+)%\|[^|]*\| (\d+)/800 \[[\d:]+<([\d:]+),[^\]]*loss 0", screen
    )
    assert len(bars) > 2
    steps = [int(step) for _, step, _ in bars]
    assert steps == sorted(steps)
    assert 0 < steps[0] < steps[-1] == 800


def test_a_terminal_shows_the_summary_and_both_evaluations(screen):
    assert 'Model: "dense"' in screen
    assert "Total params: 50,992" in re.sub(r"\x1b\[[\d;]*m", "", screen)
    for step in (400, 800):
        assert re.search(rf"step {step}/800  train loss 0\.\d+ .*eval loss", screen)


@pytest.mark.parametrize("word", ["Warning", "WARNING", "oneDNN", "cuda", "Traceback"])
def test_a_terminal_shows_no_noise(screen, word):
    assert word not in screen
