import os
import signal
import subprocess
import sys

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


def run_main(tmp_path, body, redirection="", python=(), **environment):
    """Runs a script whose `main` is `body`, in a shell that redirects its output."""
    script = tmp_path / "script.py"
    script.write_text(
        "import atexit, os, sys\n"
        "from aelab.cli import run\n"
        "from aelab.errors import UsageError\n"
        "from aelab.system.console import output, say\n"
        f"def main(argv):\n    {body}\n"
        "run(main)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    command = ["sh", "-c", f'"$@" {redirection}', "sh", sys.executable, *python, script]
    return subprocess.run(command, capture_output=True, env=env, timeout=60)


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("say('done')", 0),
        ("output('table')", 1),
        ("print('table')", 1),
        ("raise UsageError('--seed is bad')", 2),
    ],
)
def test_only_a_lost_product_is_a_failure(tmp_path, body, code, redirection):
    result = run_main(tmp_path, body, redirection)
    assert result.returncode == code
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_bad_flag_has_its_exit_code_without_standard_error(tmp_path, redirection):
    result = run_main(tmp_path, "raise UsageError('--seed is bad')", redirection)
    assert (result.returncode, result.stdout) == (2, b"")


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    body = "os._exit(os.open(__file__, os.O_RDONLY))"
    assert run_main(tmp_path, body, "<&- >&- 2>&-").returncode == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252:strict"])
def test_output_that_is_not_utf8_is_escaped(tmp_path, encoding):
    body = "say('日'); raise UsageError('日')"
    result = run_main(tmp_path, body, PYTHONIOENCODING=encoding)
    expected = (b"\\u65e5\n", b"error: \\u65e5\n", 2)
    assert (result.stdout, result.stderr, result.returncode) == expected


def test_a_profiler_writes_its_file(tmp_path):
    profile = tmp_path / "profile"
    run_main(tmp_path, "pass", python=("-m", "cProfile", "-o", str(profile)))
    assert profile.stat().st_size


@pytest.mark.parametrize("is_traced", [True, False])
def test_coverage_gets_a_normal_shutdown(tmp_path, is_traced):
    trace = "sys.settrace(lambda *event: None); " * is_traced
    body = trace + "atexit.register(print, 'written'); raise UsageError"
    result = run_main(tmp_path, body)
    assert (result.returncode, result.stdout) == (2, b"written\n" * is_traced)
