"""Runs a script's `main` and turns its exceptions into exit codes."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from aelab.errors import Stopped, TrainingError, UsageError
from aelab.system import signals, tensorflow_errors
from aelab.system.console import printable


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Calls a script's `main(argv)` and exits with its exit code.

    Exits with `os._exit` once output is flushed: a normal interpreter shutdown of
    TensorFlow can take ten seconds, and fails noisily when another worker is gone.
    Profilers and coverage write their files at a normal shutdown, so they get it.
    """
    _open_streams()
    code = exit_code(main)
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except OSError:  # full disk or closed pipe
        code = code or 1
    if _is_traced():
        sys.exit(code)
    os._exit(code)


def _open_streams() -> None:
    """Gives each standard stream a file that takes text in any encoding.

    Without it, the first file that opens would get the number of a closed stream, and
    what C++ prints. The stand-in for standard output can't be written to either.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            flags = os.O_RDWR if name == "stderr" else os.O_RDONLY
            mode = "r" if name == "stdin" else "w"
            stream = open(os.open(os.devnull, flags), mode)  # noqa: SIM115
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_traced() -> bool:
    """Whether a debugger, coverage or a profiler is at work."""
    monitoring = getattr(sys, "monitoring", None)  # Python 3.12
    tools = map(monitoring.get_tool, range(6)) if monitoring else ()
    return any((sys.gettrace(), sys.getprofile(), *tools))


def exit_code(main: Callable[[Sequence[str]], None]) -> int:
    """Calls a script's `main(argv)` and returns its exit code.

    0: success. 1: the work failed. 2: bad flag, configuration, data or file.
    128 + n: stopped by signal n. All but success print one message on standard error.
    """
    signal.signal(signal.SIGTERM, _exit)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)
    code, message = 0, ""
    try:
        main(sys.argv)
    except UsageError as error:
        code, message = 2, f"error: {error}"
    except (TrainingError, OSError) as error:
        code, message = 1, f"error: {error}"
    except MemoryError as error:
        code, message = 1, f"error: not enough memory: {error}"
    except Stopped as stopped:
        code, message = 128 + stopped.signal_number, str(stopped)
    except KeyboardInterrupt:
        code, message = 128 + signal.SIGINT, "interrupted"
    except SystemExit as stop:  # by `_exit`
        if not isinstance(stop.code, int):
            raise
        code = stop.code
    except Exception as error:
        if not (reason := tensorflow_errors.reason(error)):
            raise
        code, message = 1, f"error: {reason}"
    if message:
        # A line break in a name does not begin a line; the layout has two spaces.
        message = "\n  ".join(map(printable, message.split("\n  ")))
        with contextlib.suppress(OSError):  # standard error may be on a full disk
            print(message, file=sys.stderr, flush=True)
    return code


def _exit(number: int, frame: object) -> None:
    """Handles a signal. Raises, so that cleanup handlers run."""
    if signals.is_stopping:  # this is the second signal
        os._exit(128 + number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
