"""Command lines: flags from the fields of `Config`, `Config` from flags, exit codes.

The only module that knows absl. It imports nothing heavy, so that `--help` and a bad
flag are answered at once.
"""

import contextlib
import math
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from aelab.config import FIELDS, Config, field_type, parse_field
from aelab.errors import Stopped, TrainingError, UsageError
from aelab.system import signals

_FLAGFILE_HELP = "Read flags from this file; flags after it win over it."
_MAX_FLAGFILES = 100
_MAX_FLAGFILE_SIZE = 2**20  # characters


class _FieldParser(flags.ArgumentParser[Any]):
    """Parses one field of `Config`, with the field's own error message."""

    def __init__(self, name: str):
        self._name = name

    def parse(self, argument: Any) -> Any:
        """The field's value; what is no text is the default, taken as it is."""
        return (
            parse_field(self._name, argument) if isinstance(argument, str) else argument
        )

    def flag_type(self) -> str:
        """The name of the field's type, as absl asks for it."""
        return field_type(self._name).__name__


class _LevelsParser(flags.ArgumentParser[Any]):
    """Parses numbers above 0 with commas between them, or nothing, into a tuple."""

    def __init__(self, name: str):
        self._name = name

    def parse(self, argument: Any) -> Any:
        """The numbers; what is no text is the default, taken as it is."""
        if not isinstance(argument, str):
            return argument
        try:
            numbers = tuple(float(word) for word in argument.split(",") if argument)
        except ValueError:
            numbers = (math.nan,)
        if not all(0 < number <= sys.float_info.max for number in numbers):
            raise UsageError(
                f"--{self._name} must be numbers above 0 with commas between them, as "
                f"0.1,0.5, or empty; not {argument!r}"
            )
        return numbers


class CommandLine:
    """The flags of one script.

    Attributes:
      values: parsed flags as attributes, after `parse`.
      inputs: what stood on the command line beside flags.
    """

    def __init__(self, description: str):
        """Starts with `--help` and `--flagfile`; `description` heads the help."""
        self.values = flags.FlagValues()
        self.inputs: list[str] = []
        self._description = description
        self._required: list[str] = []
        self._paths: list[str] = []
        self._texts: dict[str, str] = {}
        self.add_text("flagfile", _FLAGFILE_HELP, "FILE")

    def add_text(
        self,
        name: str,
        help: str,
        shown: str,
        default: str = "",
        required: bool = False,
    ) -> None:
        """Adds a flag of any text; `shown` stands for its value in the help."""
        flags.DEFINE_string(name, default, help, flag_values=self.values)
        if required:
            self._required.append(name)
        self._texts[f"--{name}={default or shown}"] = help

    def add_path(
        self, name: str, help: str, shown: str, required: bool = False
    ) -> None:
        """Adds a flag of a file or folder, in which `~` is the home folder."""
        self.add_text(name, help, shown, required=required)
        self._paths.append(name)

    def add_choice(self, name: str, help: str, choices: Sequence[str]) -> None:
        """Adds a flag with the given values, of which the first is the default."""
        flags.DEFINE_enum(name, choices[0], choices, help, flag_values=self.values)
        self._texts[f"--{name}={'|'.join(choices)}"] = help

    def add_number(self, name: str, help: str, default: float) -> None:
        """Adds a flag of a number of at least 0."""
        flags.DEFINE_float(
            name, default, help, lower_bound=0.0, flag_values=self.values
        )
        self._texts[f"--{name}={default:g}"] = help

    def add_levels(self, name: str, help: str, default: Sequence[float]) -> None:
        """Adds a flag of numbers above 0, with commas between them; may be empty."""
        flags.DEFINE(
            _LevelsParser(name),
            name,
            tuple(default),
            help,
            flag_values=self.values,
            serializer=flags.ArgumentSerializer(),
        )
        self._texts[f"--{name}={','.join(f'{n:g}' for n in default)}"] = help

    def add_switch(self, name: str, help: str) -> None:
        """Adds a flag that is off unless it is given."""
        flags.DEFINE_boolean(name, False, help, flag_values=self.values)
        self._texts[f"--{name}"] = help

    def add_config(self) -> None:
        """Adds a flag for each field of `Config`."""
        for name, field in FIELDS.items():
            flags.DEFINE(
                _FieldParser(name),
                name,
                field.default,
                field.metadata["help"],
                flag_values=self.values,
                serializer=flags.ArgumentSerializer(),
            )
            help, choices = field.metadata["help"], field.metadata["choices"]
            if choices:
                several = ", or several joined by commas" * field.metadata["is_list"]
                help += f" One of: {', '.join(map(str, choices))}{several}."
            self._texts[f"--{name}={field.default}"] = help

    def parse(self, argv: Sequence[str], inputs: bool = False) -> flags.FlagValues:
        """Reads the command line; prints the help and exits if it asks for it.

        Args:
          argv: the command line, script name first.
          inputs: whether there may be arguments that are no flags.

        Returns:
          The values, as attributes by the flags' names.

        Raises:
          UsageError: an unknown flag, a bad value, a flagfile that can't be read, a
            required flag that is missing or an unexpected argument.
        """
        if any(word in ("--help", "-help", "-h") for word in argv[1:]):
            print(self.help(argv[0]))
            raise SystemExit(0)
        try:
            "".join(argv).encode()  # what is no text can't be written to a file
            self.inputs = self.values([argv[0], *_with_flagfiles(argv[1:], [])])[1:]
        except flags.Error as error:
            raise UsageError(_plain(str(error))) from None
        except UnicodeEncodeError as error:
            raise UsageError(f"the command line is not UTF-8: {error}") from None
        except RecursionError:  # absl looks for flags with a name like an unknown one
            raise UsageError("an unknown flag, with a very long name") from None
        if self.inputs and not inputs:
            raise UsageError(
                f"unexpected argument {self.inputs[0]!r}: flags begin with --"
            )
        for name in self._required:
            if not self.values[name].value:
                raise UsageError(f"--{name} is missing")
        for name in self._paths:
            self.values[name].value = _path(name, self.values[name].value)
        return self.values

    def config(self) -> Config:
        """The `Config` that the flags describe, with `data_dir` made absolute."""
        values = {name: self.values[name].value for name in FIELDS}
        if values["data_dir"]:
            values["data_dir"] = os.path.abspath(os.path.expanduser(values["data_dir"]))
        return Config(**values)

    def help(self, script: str) -> str:
        """The text of `--help`."""
        lines = [self._description.strip(), "", f"Flags of {os.path.basename(script)}:"]
        for flag, help in self._texts.items():
            lines.append(f"  {flag}")
            lines += textwrap.wrap(
                help, 80, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
        return "\n".join(lines)


def _with_flagfiles(words: Sequence[str], opened: list[str]) -> list[str]:
    """`words` with the lines of each flagfile in the place of its `--flagfile`.

    Not left to absl, which follows files that include each other for ever or until its
    stack ends, and passes by what it takes for no flagfile, as a line with spaces
    before `--flagfile`.

    Args:
      words: a command line without the script, or the lines of a flagfile.
      opened: the flagfiles so far, to which this adds; they are counted together.
    """
    expanded: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, path = word.partition("=")
        if flag in ("--flagfile", "-flagfile"):
            path = path if equals else next(rest, "")
            expanded += _with_flagfiles(_flagfile_lines(path, opened), opened)
        else:
            expanded.append(word)
        if word == "--":  # no flag is behind it
            break
    return [*expanded, *rest]


def _flagfile_lines(path: str, opened: list[str]) -> list[str]:
    """The lines of a flagfile, without empty ones and comments."""
    opened.append(path)
    if len(opened) > _MAX_FLAGFILES:
        raise UsageError(
            f"--flagfile={path}: more than {_MAX_FLAGFILES} flagfiles were asked for; "
            "does one of them include itself?"
        )
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            text = file.read(_MAX_FLAGFILE_SIZE + 1)
    except (OSError, ValueError) as error:  # not there, not UTF-8, or NUL in its name
        raise UsageError(f"--flagfile={path} can't be read: {error}") from None
    if len(text) > _MAX_FLAGFILE_SIZE:
        raise UsageError(f"--flagfile={path} is too long to be a flagfile")
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith(("#", "//"))]


def _path(name: str, text: str) -> str:
    """The path that a flag's `text` means, which a flagfile can hold."""
    if text.isprintable():
        path = os.path.expanduser(text)
        whole = os.path.abspath(path) if path else ""
        if whole.isprintable() and whole == whole.strip():
            return path
    raise UsageError(
        f"--{name} must be a printable path, without spaces at its end, not {text!r}"
    )


def _plain(message: str) -> str:
    """The message of an absl error without absl's own prefixes."""
    for prefix in ("ERROR:: ", "FATAL Flags parsing error: "):
        message = message.removeprefix(prefix)
    head, _, rest = message.partition(": ")
    return rest if head.startswith("flag --") and rest.startswith("--") else message


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Calls a script's `main(argv)` and ends the process with its exit code.

    At once, once all is written: to take TensorFlow apart, as Python would, lasts up to
    ten seconds at times, and fails noisily where another worker is gone.
    """
    code = exit_code(main)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody listens any more
        code = code or 1
    os._exit(code)


def _end(number: int, frame: object) -> None:
    """Ends the script on a signal; what is to be tidied up on the way out, is."""
    if signals.is_stopping:  # the second signal
        os._exit(128 + number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def exit_code(main: Callable[[Sequence[str]], None]) -> int:
    """Calls a script's `main(argv)` and turns what it raises into an exit code.

    0: done. 1: training or writing failed. 2: bad flag, configuration, data or file.
    128 + n: stopped by signal n. Each with one message on standard error.
    """
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
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
    if message:
        with contextlib.suppress(OSError):  # it may be a file on a full disk
            print(message, file=sys.stderr, flush=True)
    return code
