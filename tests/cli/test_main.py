import signal

import pytest
import tensorflow as tf

from aelab.cli import exit_code
from aelab.errors import Stopped, TrainingError, UsageError


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (None, 0, ""),
        (UsageError("--seed is bad"), 2, "error: --seed is bad\n"),
        (TrainingError("at step 3"), 1, "error: at step 3\n"),
        (OSError(28, "No space left", "a/b"), 1, "a/b"),
        (Stopped(signal.SIGTERM, "stopped at 3"), 128 + 15, "stopped at 3\n"),
        (Stopped(signal.SIGINT, "stopped at 3"), 128 + 2, "stopped at 3\n"),
        (KeyboardInterrupt(), 128 + 2, "interrupted"),
        (
            tf.errors.InternalError(None, None, "{{node a}} CUDA error\n [Op:B]"),
            *(1, "error: CUDA error\n"),
        ),
    ],
)
def test_exceptions_become_exit_codes(raised, code, message, capsys):
    def main(argv):
        if raised:
            raise raised

    assert exit_code(main) == code
    out, err = capsys.readouterr()
    assert not out
    assert message in err and err.count("\n") == bool(raised)


def test_names_in_a_message_are_escaped_and_its_lines_are_kept(capsys):
    def main(argv):
        raise UsageError("bad:\n  a\x1b[31m\nerror: b\udcff\n  c")

    assert exit_code(main) == 2
    expected = "error: bad:\n  a\\x1b[31m\\nerror: b\\udcff\n  c\n"
    assert capsys.readouterr().err == expected


def test_main_receives_the_command_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--seed=3"])
    received = []
    assert exit_code(received.extend) == 0
    assert received == ["train.py", "--seed=3"]


def test_other_exceptions_are_not_caught():
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exit_code(main)
