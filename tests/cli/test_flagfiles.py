import os

import pytest
from test_flags import parse

from aelab.config import Config
from aelab.errors import UsageError


def flagfile(path, text):
    path.write_text(text)
    return f"--flagfile={path}"


def test_a_flagfile_with_comments(tmp_path):
    text = "# command: --seed=9\n\n--seed=3\n// --seed=4\n  --batch_size=16  \n"
    text += "--run_dir=from file\n"
    expected = Config(seed=3, batch_size=16)
    assert parse(flagfile(tmp_path / "a", text)) == (expected, "from file")


def test_later_flags_override_earlier_ones(tmp_path):
    given = flagfile(tmp_path / "a.flags", "--seed=3\n--run_dir=file\n")
    assert parse(given, "--seed=4", "--run_dir=line") == (Config(seed=4), "line")
    assert parse("--seed=4", "--run_dir=line", given) == (Config(seed=3), "file")


def test_a_flagfile_can_include_another(tmp_path):
    inner = flagfile(tmp_path / "inner", "--seed=1\n--epochs=2\n--run_dir=inner\n")
    outer = flagfile(tmp_path / "outer", f"{inner}\n--seed=3\n")
    assert parse(outer) == (Config(seed=3, epochs=2), "inner")


def test_an_included_flagfile_is_looked_for_beside_the_one_that_includes_it(
    tmp_path, monkeypatch
):
    for folder in ("configs", "current"):
        (tmp_path / folder).mkdir()
    flagfile(tmp_path / "configs" / "inner", "--seed=1\n")
    outer = flagfile(tmp_path / "configs" / "outer", "--flagfile=inner\n")
    monkeypatch.chdir(tmp_path / "current")
    assert parse("--run_dir=a", outer)[0].seed == 1
    flagfile(tmp_path / "current" / "inner", "--seed=2\n")
    assert parse("--run_dir=a", outer)[0].seed == 1
    (tmp_path / "configs" / "inner").unlink()
    assert parse("--run_dir=a", outer)[0].seed == 2


@pytest.mark.parametrize("line", ["  {}", "{}  ", "# a\n  # b\n{}"])
def test_spaces_and_comments_around_an_included_flagfile(tmp_path, line):
    inner = flagfile(tmp_path / "inner", "--seed=1\n")
    outer = flagfile(tmp_path / "outer", line.format(inner))
    assert parse("--run_dir=a", outer)[0].seed == 1


def test_a_flagfile_may_be_the_next_word(tmp_path):
    inner = flagfile(tmp_path / "inner", "--seed=1\n").partition("=")[2]
    outer = flagfile(tmp_path / "outer", f"--flagfile\n{inner}\n").partition("=")[2]
    assert parse("--run_dir=a", "-flagfile", outer)[0].seed == 1


def test_a_flagfile_may_begin_with_a_byte_order_mark(tmp_path):
    inner = flagfile(tmp_path / "inner", "\ufeff--seed=1\r\n--epochs=2\r\n")
    outer = flagfile(tmp_path / "outer", f"\ufeff{inner}\n")
    assert parse("--run_dir=a", outer)[0] == Config(seed=1, epochs=2)
    comment = flagfile(tmp_path / "comment", "\ufeff# a comment\n--seed=1\n")
    assert parse("--run_dir=a", comment)[0].seed == 1


def test_flagfiles_that_include_each_other_are_refused(tmp_path):
    flagfile(tmp_path / "b", f"--flagfile={tmp_path}/a")
    outer = flagfile(tmp_path / "a", f"--flagfile={tmp_path}/b\n" * 2)
    with pytest.raises(UsageError, match=r"^--flagfile=.*/[ab]: .* include itself"):
        parse("--run_dir=a", outer)


def test_an_endless_flagfile_is_refused():
    with pytest.raises(UsageError, match=r"^--flagfile=/dev/zero is too long"):
        parse("--run_dir=a", "--flagfile=/dev/zero")


def test_a_path_in_a_flagfile_may_have_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / "a.flags"
    path.write_bytes(b"# \xe9t\xe9\n--dataset=idx\n--data_dir=/d\xff\n--run_dir=r\xfe")
    config, run_dir = parse(f"--flagfile={path}")
    assert [os.fsencode(text) for text in (config.data_dir, run_dir)] == [
        b"/d\xff",
        b"r\xfe",
    ]


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\xff\x00", b"\x1f\x8b\x08\x00\x00"])
def test_a_binary_flagfile_is_refused(tmp_path, content):
    path = tmp_path / "binary.flags"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"^--flagfile=.*binary\.flags can't be"):
        parse("--run_dir=a", f"--flagfile={path}")


def test_a_bad_flag_in_a_flagfile_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"^--seed must be an integer, not 'x'$"):
        parse(flagfile(tmp_path / "a.flags", "--run_dir=a\n--seed=x\n"))
