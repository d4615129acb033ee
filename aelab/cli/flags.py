"""The flags of a script, and the `Config` that they describe."""

import dataclasses
import math
import os
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from aelab.cli import flagfiles
from aelab.cli.paths import check_is_local, parse_path
from aelab.config import FIELDS, Config, field_type, fields, parse_field
from aelab.errors import UsageError
from aelab.system.console import output

_Parse = Callable[[str, str], Any]  # of a flag's name and text

_MODEL_HELP = (
    "The same --model=MODULE:FUNCTION that the run was trained with, if it is not "
    "built in; importing it runs its code."
)


class _Parser(flags.ArgumentParser[Any]):
    """Parses a flag's text with a function."""

    def __init__(self, name: str, function: _Parse):
        self._name, self._function = name, function

    def parse(self, argument: Any) -> Any:
        """The flag's value. Non-string input is the default, returned unchanged."""
        is_text = isinstance(argument, str)
        return self._function(self._name, argument) if is_text else argument


def _parse_levels(name: str, text: str) -> tuple[float, ...]:
    """Comma-separated numbers above 0, up to 1, or none for an empty text."""
    try:
        numbers = tuple(fields.number(word) for word in text.split(",") if text)
    except ValueError:
        numbers = (math.nan,)
    if not all(0 < number <= 1 for number in numbers):
        raise UsageError(
            f"--{name} must be numbers above 0, up to 1, separated by commas, or "
            f"empty; not {text!r}: {fields.LEVEL_HINT}"
        )
    return numbers


class CommandLine:
    """The flags of a script.

    After `parse`, `values` has their values as attributes, and `inputs` are the
    positional arguments.
    """

    def __init__(self, description: str | None):
        """Starts with `--help`, which begins with `description`, and `--flagfile`."""
        self.values = flags.FlagValues()
        self.inputs: list[str] = []
        self._description = (description or "").strip()  # None with -OO
        self._required: list[str] = []
        self._paths: dict[str, bool] = {}  # by name, whether it may be empty
        self._help_texts: dict[str, str] = {}
        self.add_text("flagfile", flagfiles.HELP, "FILE")

    def add_text(
        self, name: str, help: str, kind: str, default: str = "", required: bool = False
    ) -> None:
        """Adds a text flag. Its help shows the default, or `kind` if that is empty."""
        flags.DEFINE_string(name, default, help, flag_values=self.values)
        if required:
            self._required.append(name)
        self._help_texts[f"--{name}={default or kind}"] = help

    def add_path(self, name: str, help: str, kind: str, required: bool = False) -> None:
        """Adds a flag for a file or folder; a leading `~` is the home folder."""
        self.add_text(name, help, kind, required=required)
        self._paths[name] = False

    def add_output(self, help: str, kind: str) -> None:
        """Adds the required `--output`, and `--overwrite`."""
        self.add_path("output", help, kind, required=True)
        self.add_switch("overwrite", "Replace existing files. Inputs never are.")

    def add_choice(self, name: str, help: str, choices: Sequence[str]) -> None:
        """Adds a flag that takes one of `choices`; the first is the default."""
        flags.DEFINE_enum(name, choices[0], choices, help, flag_values=self.values)
        self._help_texts[f"--{name}={'|'.join(choices)}"] = help

    def add_number(self, name: str, help: str, default: float) -> None:
        """Adds a flag for a number of at least 0."""
        flags.DEFINE_float(name, default, help, lower_bound=0, flag_values=self.values)
        self._help_texts[f"--{name}={default:g}"] = help

    def add_levels(self, name: str, help: str, default: Sequence[float]) -> None:
        """Adds a flag for comma-separated levels of noise; it may be empty."""
        self._define(name, tuple(default), help, _parse_levels)
        self._help_texts[f"--{name}={','.join(f'{n:g}' for n in default)}"] = help

    def add_list(self, name: str, help: str, kind: str) -> None:
        """Adds a text flag that may be given several times; its value is a list."""
        flags.DEFINE_multi_string(name, [], help, flag_values=self.values)
        self._help_texts[f"--{name}={kind}"] = help

    def add_count(self, name: str, help: str, default: int) -> None:
        """Adds a flag for an integer of at least 0."""
        flags.DEFINE_integer(
            name, default, help, lower_bound=0, flag_values=self.values
        )
        self._help_texts[f"--{name}={default}"] = help

    def add_switch(self, name: str, help: str) -> None:
        """Adds a boolean flag that is off by default."""
        flags.DEFINE_boolean(name, False, help, flag_values=self.values)
        self._help_texts[f"--{name}"] = help

    def add_run(self, run_dir: bool = True, checkpoint: bool = True) -> None:
        """Adds `--model` and the requested flags of a script on a trained run."""
        if run_dir:
            self.add_path("run_dir", "Folder of the run.", "DIR", required=True)
        if checkpoint:
            self.add_choice("checkpoint", "Weights to use.", ("best", "latest"))
        self.add_text("model", _MODEL_HELP, "MODULE:FUNCTION")

    def add_override(self, name: str, help: str, kind: str = "N") -> None:
        """Adds a flag for a field of `Config`; None stands for the run's value."""
        self._define(name, None, help, parse_field, field_type(name) is bool)
        self._help_texts[f"--{name}={kind}"] = help

    def add_config(self) -> None:
        """Adds a flag for each field of `Config`."""
        for name, field in FIELDS.items():
            help, choices = field.metadata["help"], field.metadata["choices"]
            is_switch = field_type(name) is bool
            self._define(name, field.default, help, parse_field, is_switch)
            if choices:
                several = ", or several joined by commas" * field.metadata["is_list"]
                help += f" One of: {', '.join(map(str, choices))}{several}."
            default = str(field.default).lower() if is_switch else field.default
            self._help_texts[f"--{name}={default}"] = help
        self._paths["data_dir"] = True

    def _define(
        self, name: str, default: Any, help: str, parse: _Parse, boolean: bool = False
    ) -> None:
        parser, serializer = _Parser(name, parse), flags.ArgumentSerializer()
        flag = flags.Flag(parser, serializer, name, default, help, boolean=boolean)
        flags.DEFINE_flag(flag, self.values)

    def parse(self, argv: Sequence[str], inputs: bool = False) -> flags.FlagValues:
        """Parses the command line, script name first, and returns `values`.

        Prints the help and exits if that is asked for.

        Raises:
          UsageError: an unknown flag, a bad value, a flagfile that can't be read, a
            missing required flag, a path that is empty or a URL, or a positional
            argument without `inputs`.
        """
        if any(word in ("--help", "-help", "-h") for word in argv[1:]):
            output(self.help(argv[0]))
            raise SystemExit(0)
        try:
            # Lone surrogates can't be written to a file; bytes that are not UTF-8 can.
            "".join(argv).encode(errors="surrogateescape")
        except UnicodeEncodeError as error:
            raise UsageError(f"the command line is not UTF-8: {error}") from None
        words = [argv[0], *flagfiles.expand(argv[1:])]
        try:
            self.inputs = self.values(words)[1:]
        except (flags.Error, ValueError) as error:  # ValueError: --noNAME=VALUE
            raise UsageError(_without_prefixes(str(error))) from None
        except RecursionError:  # in absl's search for similar flag names
            raise UsageError("an unknown flag, with a very long name") from None
        if self.inputs and not inputs:
            raise UsageError(
                f"unexpected argument {self.inputs[0]!r}: flags begin with --"
            )
        for name in self._required:
            if not self.values[name].value:
                raise UsageError(f"--{name} is missing")
        for name, may_be_empty in self._paths.items():
            flag = self.values[name]
            if flag.present and not flag.value and not may_be_empty:
                raise UsageError(f"--{name} is empty")
            flag.value = parse_path(name, flag.value)
        for path in self.inputs:
            check_is_local(path)
        return self.values

    def given_fields(self) -> dict[str, fields.Value]:
        """The fields of `Config` that the flags give, with an absolute `data_dir`.

        Raises:
          UsageError: a value that only earlier runs may have.
        """
        given = {n: self.values[n].value for n in FIELDS if self.values[n].present}
        for name, value in given.items():
            fields.check_new(FIELDS[name], value)
        if given.get("data_dir"):
            given["data_dir"] = os.path.abspath(given["data_dir"])
        return given

    def config(self, base: Config | None = None) -> Config:
        """The `Config` that the flags describe, with an absolute `data_dir`.

        Flags that were not given have the values of `base`, or else their defaults.

        Raises:
          UsageError: see `Config`, or a value that only `base` may have.
        """
        given = {n: self.values[n].value for n in FIELDS if self.values[n].present}
        for name, value in given.items():
            if base is None or value != getattr(base, name):
                fields.check_new(FIELDS[name], value)
        values = dataclasses.asdict(base or Config()) | given
        if values["data_dir"]:
            values["data_dir"] = os.path.abspath(values["data_dir"])
        return Config(**values)

    def help(self, script: str) -> str:
        """The text of `--help`."""
        lines = [self._description, "", f"Flags of {os.path.basename(script)}:"]
        for flag, help in self._help_texts.items():
            lines += [f"  {flag}", textwrap.indent(textwrap.fill(help, 74), " " * 6)]
        return "\n".join(lines)


def _without_prefixes(message: str) -> str:
    """The message of an absl error without absl's own prefixes."""
    for prefix in ("ERROR:: ", "FATAL Flags parsing error: "):
        message = message.removeprefix(prefix)
    head, _, rest = message.partition(": ")
    return rest if head.startswith("flag --") and rest.startswith("--") else message
