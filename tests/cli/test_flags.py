import signal

import pytest

from aelab.cli import flags
from aelab.config import FIELDS, Config, field_type
from aelab.errors import Stopped, TrainingError, UsageError


def parse(*arguments):
    """(Config, run_dir) of a command line like that of train.py."""
    command_line = flags.CommandLine("Trains.")
    command_line.add_text("run_dir", "Folder.", "DIR", required=True)
    command_line.add_config()
    values = command_line.parse(["train.py", *map(str, arguments)])
    return command_line.config(), values.run_dir


def flagfile(path, text):
    path.write_text(text)
    return f"--flagfile={path}"


def test_one_flag_for_each_field():
    command_line = flags.CommandLine("Trains.")
    before = set(command_line.values)
    command_line.add_config()
    assert set(command_line.values) - before == set(FIELDS)


def test_defaults_are_those_of_config():
    assert parse("--run_dir=a") == (Config(), "a")


@pytest.mark.parametrize("name", FIELDS)
def test_values_have_the_type_of_the_field(name):
    default = FIELDS[name].default
    command_line = flags.CommandLine("Trains.")
    command_line.add_config()
    texts = {int: "1", float: "1", str: default}
    command_line.parse(["train.py", f"--{name}={texts[field_type(name)]}"])
    value = command_line.values[name].value
    assert type(value) is field_type(name)
    assert value == (default if isinstance(default, str) else 1)


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


def levels(*arguments):
    command_line = flags.CommandLine("Evaluates.")
    command_line.add_levels("noise_stddevs", "At these.", (0.1, 1.0))
    return command_line.parse(["evaluate.py", *arguments]).noise_stddevs


@pytest.mark.parametrize(
    ("text", "expected"), [("0.5", (0.5,)), ("0.2, 1e-1,3", (0.2, 0.1, 3.0)), ("", ())]
)
def test_levels_are_numbers_with_commas(text, expected):
    assert levels(f"--noise_stddevs={text}") == expected
    assert levels() == (0.1, 1.0)


@pytest.mark.parametrize(
    "text", ["0", "-0.5", "0.1,,0.2", "0.1,", "nan", "inf", "0.1;0.2", "a"]
)
def test_levels_that_are_none(text):
    with pytest.raises(UsageError, match=r"^--noise_stddevs must be numbers above 0"):
        levels(f"--noise_stddevs={text}")


def test_a_flagfile_with_comments(tmp_path):
    text = "# command: --seed=9\n\n--seed=3\n// --seed=4\n  --batch_size=16  \n"
    text += "--run_dir=from file\n"
    expected = Config(seed=3, batch_size=16)
    assert parse(flagfile(tmp_path / "a", text)) == (expected, "from file")


def test_what_comes_later_wins(tmp_path):
    given = flagfile(tmp_path / "a.flags", "--seed=3\n--run_dir=file\n")
    assert parse(given, "--seed=4", "--run_dir=line") == (Config(seed=4), "line")
    assert parse("--seed=4", "--run_dir=line", given) == (Config(seed=3), "file")


def test_a_flagfile_in_a_flagfile(tmp_path):
    inner = flagfile(tmp_path / "inner", "--seed=1\n--epochs=2\n--run_dir=inner\n")
    outer = flagfile(tmp_path / "outer", f"{inner}\n--seed=3\n")
    assert parse(outer) == (Config(seed=3, epochs=2), "inner")


@pytest.mark.parametrize("line", ["  {}", "{}  ", "# a\n  # b\n{}"])
def test_ways_to_write_a_flagfile_in_a_flagfile(tmp_path, line):
    inner = flagfile(tmp_path / "inner", "--seed=1\n")
    outer = flagfile(tmp_path / "outer", line.format(inner))
    assert parse("--run_dir=a", outer)[0].seed == 1


def test_flagfiles_on_two_words(tmp_path):
    inner = flagfile(tmp_path / "inner", "--seed=1\n").partition("=")[2]
    outer = flagfile(tmp_path / "outer", f"--flagfile\n{inner}\n").partition("=")[2]
    assert parse("--run_dir=a", "-flagfile", outer)[0].seed == 1


def test_flagfiles_that_include_each_other_are_refused(tmp_path):
    flagfile(tmp_path / "b", f"--flagfile={tmp_path}/a")
    outer = flagfile(tmp_path / "a", f"--flagfile={tmp_path}/b\n" * 2)
    with pytest.raises(UsageError, match=r"^--flagfile=.*/[ab]: .* include itself"):
        parse("--run_dir=a", outer)


def test_a_flagfile_without_end_is_refused():
    with pytest.raises(UsageError, match=r"^--flagfile=/dev/zero is too long"):
        parse("--run_dir=a", "--flagfile=/dev/zero")


@pytest.mark.parametrize("text", ["a ", "a /", "a\nb", "~\0", "\x7f"])
def test_a_path_that_a_flagfile_cannot_hold_is_refused(text):
    command_line = flags.CommandLine("Trains.")
    command_line.add_path("run_dir", "Folder.", "DIR")
    with pytest.raises(UsageError, match=r"^--run_dir must be a printable path"):
        command_line.parse(["train.py", f"--run_dir={text}"])


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
def test_bad_command_lines(arguments, names):
    with pytest.raises(UsageError) as caught:
        parse(*arguments)
    message = str(caught.value)
    assert all(name in message for name in names)
    assert "ERROR" not in message and "Flags parsing" not in message


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\xff\x00", b"\x1f\x8b\x08\x00\x00"])
def test_a_binary_flagfile_is_refused(tmp_path, content):
    path = tmp_path / "binary.flags"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"^--flagfile=.*binary\.flags can't be"):
        parse("--run_dir=a", f"--flagfile={path}")


def test_a_bad_flag_in_a_flagfile_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"^--seed must be an integer, not 'x'$"):
        parse(flagfile(tmp_path / "a.flags", "--run_dir=a\n--seed=x\n"))


def test_inputs_where_they_are_allowed():
    command_line = flags.CommandLine("Takes files.")
    command_line.add_text("output", "Folder.", "DIR")
    values = command_line.parse(["a.py", "x.png", "--output=o", "y.png"], inputs=True)
    assert (command_line.inputs, values.output) == (["x.png", "y.png"], "o")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], False), (["--compare"], True), (["--compare", "--nocompare"], False)],
)
def test_a_switch(arguments, expected):
    command_line = flags.CommandLine("Compares.")
    command_line.add_switch("compare", "Whether to.")
    assert command_line.parse(["a.py", *arguments]).compare is expected
    assert "--compare\n" in command_line.help("a.py")


def test_choices():
    command_line = flags.CommandLine("Chooses.")
    command_line.add_choice("checkpoint", "Which.", ("best", "latest"))
    assert command_line.parse(["a.py"]).checkpoint == "best"
    assert command_line.parse(["a.py", "--checkpoint=latest"]).checkpoint == "latest"
    with pytest.raises(UsageError) as caught:
        command_line.parse(["a.py", "--checkpoint=newest"])
    for word in ("--checkpoint", "newest", "best", "latest"):
        assert word in str(caught.value)


@pytest.mark.parametrize("word", ["--help", "-h", "-help"])
def test_help_names_every_flag_and_choice(word, capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--seed=bad", word)
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith("Trains.") and not err
    for name, field in FIELDS.items():
        assert f"--{name}={field.default}" in out
        assert all(str(choice) in out for choice in field.metadata["choices"])
    assert "--run_dir=DIR" in out and "--flagfile=FILE" in out


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (None, 0, ""),
        (UsageError("--seed is odd"), 2, "error: --seed is odd\n"),
        (TrainingError("at step 3"), 1, "error: at step 3\n"),
        (OSError(28, "No space left", "a/b"), 1, "a/b"),
        (Stopped(signal.SIGTERM, "stopped at 3"), 128 + 15, "stopped at 3\n"),
        (Stopped(signal.SIGINT, "stopped at 3"), 128 + 2, "stopped at 3\n"),
        (KeyboardInterrupt(), 128 + 2, "interrupted"),
    ],
)
def test_run_turns_exceptions_into_exit_codes(raised, code, message, capsys):
    def main(argv):
        if raised:
            raise raised

    assert flags.exit_code(main) == code
    out, err = capsys.readouterr()
    assert not out
    assert message in err and err.count("\n") == bool(raised)


def test_run_passes_the_command_line_on(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--seed=3"])
    seen = []
    assert flags.exit_code(seen.extend) == 0
    assert seen == ["train.py", "--seed=3"]


def test_run_does_not_hide_bugs():
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        flags.exit_code(main)
