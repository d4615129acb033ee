import dataclasses

import pytest

from aelab.cli import CommandLine
from aelab.config import FIELDS, Config, field_type, fields
from aelab.errors import UsageError


def parse(*arguments, base=None):
    """(Config, run_dir) of a command line with the flags of train.py."""
    command_line = CommandLine("Trains.")
    command_line.add_text("run_dir", "Folder.", "DIR", required=True)
    command_line.add_config()
    values = command_line.parse(["train.py", *map(str, arguments)])
    return command_line.config(base), values.run_dir


def test_each_field_has_a_flag():
    command_line = CommandLine("Trains.")
    before = set(command_line.values)
    command_line.add_config()
    assert set(command_line.values) - before == set(FIELDS)


def test_the_defaults_are_the_defaults_of_config():
    assert parse("--run_dir=a") == (Config(), "a")


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_has_the_type_of_its_field(name):
    field = FIELDS[name]
    command_line = CommandLine("Trains.")
    command_line.add_config()
    if field.metadata["choices"]:
        expected = field.metadata["choices"][0]
    elif isinstance(field.default, str):
        expected = field.default
    else:
        expected = min(1, field.metadata["maximum"] or 1)
    command_line.parse(["train.py", f"--{name}={expected}"])
    value = command_line.values[name].value
    assert type(value) is field_type(name)
    assert value == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed=5", "--learning_rate=2.5e-3", "--model=dense"],
        ["--seed", "5", "--learning_rate", ".0025", "-model=dense"],
        ["--seed=4", "--learning_rate=0.0025", "--model=dense", "--seed=5"],
    ],
)
def test_ways_to_write_flags(arguments):
    expected = Config(seed=5, learning_rate=0.0025, model="dense")
    assert parse("--run_dir=a", *arguments) == (expected, "a")


def test_flags_that_are_not_given_have_the_values_of_base():
    base = Config(seed=7, learning_rate=0.5, dataset="idx", data_dir="/data")
    assert parse("--run_dir=a", base=base)[0] == base
    changed = parse("--run_dir=a", "--seed=8", base=base)[0]
    assert changed == dataclasses.replace(base, seed=8)


@pytest.mark.parametrize("given", ["line", "file"])
def test_a_given_default_overrides_base(given, tmp_path):
    (tmp_path / "a.flags").write_text("--seed=0")
    flag = "--seed=0" if given == "line" else f"--flagfile={tmp_path / 'a.flags'}"
    assert parse("--run_dir=a", flag, base=Config(seed=7))[0] == Config()


@dataclasses.dataclass
class Switches:
    flip: bool = fields.field(False, "Flip the images.")


@pytest.fixture
def switch(monkeypatch):
    """Parses a command line with a field of type bool, and returns its value."""
    monkeypatch.setitem(FIELDS, "flip", dataclasses.fields(Switches)[0])

    def parse(*arguments):
        command_line = CommandLine("Trains.")
        command_line.add_config()
        assert "--flip=false\n" in command_line.help("train.py")
        return command_line.parse(["train.py", *arguments]).flip

    return parse


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        *(([], False), (["--flip"], True), (["--noflip"], False)),
        *((["--flip=true"], True), (["--flip=false"], False)),
        *((["--flip=True"], True), (["--flip=False"], False), (["--flip=1"], True)),
        *((["--flip", "--noflip"], False), (["--flip", "--seed=3"], True)),
    ],
)
def test_ways_to_write_a_boolean_field(switch, arguments, expected):
    assert switch(*arguments) is expected


def test_a_boolean_field_in_a_flagfile(switch, tmp_path):
    (tmp_path / "a.flags").write_text("--flip\n--seed=3\n")
    assert switch(f"--flagfile={tmp_path / 'a.flags'}") is True


@pytest.mark.parametrize("value", ["maybe", "", "2"])
def test_a_bad_value_of_a_boolean_field_is_refused(switch, value):
    message = f"^--flip must be true or false, not '{value}'$"
    with pytest.raises(UsageError, match=message):
        switch(f"--flip={value}")
    with pytest.raises(UsageError, match="--noflip"):
        switch("--noflip=true")


def levels(*arguments):
    command_line = CommandLine("Evaluates.")
    command_line.add_levels("noise_stddevs", "At these.", (0.1, 1.0))
    return command_line.parse(["evaluate.py", *arguments]).noise_stddevs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("0.5", (0.5,)), ("0.2, 1e-1,1", (0.2, 0.1, 1.0)), ("", ())),
        ("15/255, 0.5", (15 / 255, 0.5)),
    ],
)
def test_levels_are_separated_by_commas(text, expected):
    assert levels(f"--noise_stddevs={text}") == expected
    assert levels() == (0.1, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        *("0", "-0.5", "0.1,,0.2", "0.1,", "nan", "inf", "0.1;0.2", "a"),
        *("1/0", "1/2/3", "/2", "15", "0.1,25", "256/255"),
    ],
)
def test_bad_levels_are_refused(text):
    message = r"^--noise_stddevs must be numbers above 0, up to 1, .*25/255$"
    with pytest.raises(UsageError, match=message):
        levels(f"--noise_stddevs={text}")


LEVELS = ("noise_stddev", "noise_stddev_max")


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_level_may_be_a_quotient(name, in_file, tmp_path):
    flag = f"--{name}=25/255"
    (tmp_path / "a.flags").write_text(flag)
    flag = f"--flagfile={tmp_path / 'a.flags'}" if in_file else flag
    assert parse("--run_dir=a", flag)[0] == Config(**{name: 25 / 255})


@pytest.mark.parametrize("name", LEVELS)
def test_a_level_above_1_is_only_for_runs_that_began_with_it(name):
    message = rf"^--{name} must be at most 1, not 25.0: .*, for example 25/255$"
    for base in (None, Config(), Config(**{name: 26.0})):
        with pytest.raises(UsageError, match=message):
            parse("--run_dir=a", f"--{name}=25", base=base)
    old = Config(**{name: 25.0})
    assert parse("--run_dir=a", f"--{name}=25", base=old)[0] == old
    assert parse("--run_dir=a", base=old)[0] == old


@pytest.mark.parametrize(
    ("given", "expected"), [("data/../set", "set"), ("~/set", "home/set")]
)
def test_data_dir_becomes_absolute(given, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config, _ = parse("--run_dir=a", "--dataset=idx", f"--data_dir={given}")
    assert config.data_dir == str(tmp_path / expected)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--run_dir=a", "--epoch=3"], ["epoch"]),
        (["--run_dir=a", "--epochs"], ["--epochs"]),
        (["--run_dir=a", "--epochs", "--seed=3"], ["--epochs", "--seed=3"]),
        (["--run_dir=a", "--epochs="], ["--epochs", "an integer"]),
        (["--run_dir=a", "--epochs=ten"], ["--epochs", "an integer", "'ten'"]),
        (["--run_dir=a", "--epochs=1e3"], ["--epochs", "an integer", "'1e3'"]),
        (["--run_dir=a", "--epochs=0"], ["--epochs", "at least 1", "0"]),
        (["--run_dir=a", "--epochs=1" + "0" * 400], ["--epochs must be"]),
        (["--run_dir=a", "--train_steps=1" + "0" * 400], ["--train_steps must be"]),
        (["--run_dir=a", "--learning_rate=x"], ["--learning_rate", "a number", "'x'"]),
        (["--run_dir=a", "--learning_rate=nan"], ["--learning_rate", "finite"]),
        (["--run_dir=a", "--dataset=mnist"], ["--dataset", "synthetic", "'mnist'"]),
        (["--run_dir=a", "--dataset=idx"], ["--dataset=idx", "--data_dir"]),
        (["--run_dir=a", "--corruption=jpeg,fog"], ["--corruption", "'jpeg,fog'"]),
        (
            ["--run_dir=a", "--corruption=jpeg", "--masking_rate=0.5"],
            ["--masking_rate=0.5", "--corruption=jpeg"],
        ),
        (["--run_dir=a", "--image_channels=2"], ["--image_channels", "1, 3", "not 2"]),
        (["--seed=1"], ["--run_dir"]),
        (["--run_dir="], ["--run_dir"]),
        (["--run_dir=a", "b"], ["'b'"]),
        (["--run_dir=a", "b", "--seed=1"], ["'b'"]),
        (["--run_dir=a", "--", "--seed=1"], ["'--seed=1'"]),
        (["--run_dir=a", "--flagfile=/none/a.flags"], ["flagfile", "/none/a.flags"]),
        (["--run_dir=a", "--flagfile=/"], ["flagfile", "/"]),
        (["--run_dir=a", "--flagfile"], ["--flagfile"]),
        (["--run_dir=a", "--flagfile="], ["--flagfile"]),
        (["--run_dir=a", "--" + "x" * 2000], ["unknown flag"]),
    ],
)
def test_a_bad_command_line_is_refused(arguments, names):
    with pytest.raises(UsageError) as error:
        parse(*arguments)
    message = str(error.value)
    assert all(name in message for name in names)
    assert "ERROR" not in message and "Flags parsing" not in message


def test_positional_arguments_are_collected():
    command_line = CommandLine("Takes files.")
    command_line.add_text("output", "Folder.", "DIR")
    values = command_line.parse(["a.py", "x.png", "--output=o", "y.png"], inputs=True)
    assert (command_line.inputs, values.output) == (["x.png", "y.png"], "o")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], False), (["--compare"], True), (["--compare", "--nocompare"], False)],
)
def test_a_switch(arguments, expected):
    command_line = CommandLine("Compares.")
    command_line.add_switch("compare", "Whether to.")
    assert command_line.parse(["a.py", *arguments]).compare is expected
    assert "--compare\n" in command_line.help("a.py")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--run_dir=gs://bucket/run"],
        ["--run_dir=a,S3://bucket/run"],
        ["--run_dir=a", "--data_dir=hdfs://host/data", "--dataset=idx"],
        ["--run_dir=a", "--flagfile=https://host/a.flags"],
        ["--run_dir=a", "file:///a.png"],
    ],
)
def test_a_url_is_refused_wherever_a_path_is_given(arguments):
    command_line = CommandLine("Trains.")
    command_line.add_path("run_dir", "Folder.", "DIR", required=True)
    command_line.add_config()
    with pytest.raises(UsageError) as error:
        command_line.parse(["a.py", *arguments], inputs=True)
    given = next(word for word in arguments if "://" in word)
    assert str(error.value).startswith(f"{given} is not on this machine: ")
    assert "mounted" in str(error.value)


def test_an_empty_path_is_refused():
    """A script that gives `--data_dir=$UNSET` would evaluate something else."""
    command_line = CommandLine("Evaluates.")
    command_line.add_path("data_dir", "Folder.", "DIR")
    assert command_line.parse(["a.py"]).data_dir == ""
    with pytest.raises(UsageError, match=r"^--data_dir is empty$"):
        command_line.parse(["a.py", "--data_dir="])


def test_choices():
    command_line = CommandLine("Chooses.")
    command_line.add_choice("checkpoint", "Which.", ("best", "latest"))
    assert command_line.parse(["a.py"]).checkpoint == "best"
    assert command_line.parse(["a.py", "--checkpoint=latest"]).checkpoint == "latest"
    with pytest.raises(UsageError) as error:
        command_line.parse(["a.py", "--checkpoint=newest"])
    for word in ("--checkpoint", "newest", "best", "latest"):
        assert word in str(error.value)


def test_the_flags_of_a_script_on_a_run(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    command_line = CommandLine("Evaluates.")
    command_line.add_run()
    values = command_line.parse(["a.py", "--run_dir=~/run"])
    assert values.run_dir == str(tmp_path / "run")
    assert (values.checkpoint, values.model) == ("best", "")
    assert command_line.parse(["a.py", "--model=mine:build"]).model == "mine:build"
    help = command_line.help("a.py")
    assert "--model=MODULE:FUNCTION\n      The same --model=MODULE:FUNCTION" in help
    assert "importing it runs its code." in help
    command_line = CommandLine("Evaluates.")
    command_line.add_run()
    with pytest.raises(UsageError, match=r"^--run_dir is missing$"):
        command_line.parse(["a.py"])


def test_flags_of_a_run_can_be_left_out():
    command_line = CommandLine("Compares.")
    command_line.add_run(run_dir=False, checkpoint=False)
    assert set(command_line.values) == set(CommandLine("").values) | {"model"}


def test_help_without_docstrings_has_the_flags():
    assert CommandLine(None).help("a.py").strip().startswith("Flags of a.py:")


@pytest.mark.parametrize("word", ["--help", "-h", "-help"])
def test_help_names_every_flag_and_choice(word, capsys):
    with pytest.raises(SystemExit) as exit:
        parse("--seed=bad", word)
    assert exit.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith("Trains.") and not err
    for name, field in FIELDS.items():
        default = field.default
        default = str(default).lower() if isinstance(default, bool) else default
        assert f"--{name}={default}" in out
        assert all(str(choice) in out for choice in field.metadata["choices"])
    assert "--run_dir=DIR" in out and "--flagfile=FILE" in out
