import pytest

from aelab.cli.paths import check_is_local, parse_path
from aelab.errors import UsageError


def test_the_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_path("run_dir", "~/run") == "/home/me/run"
    assert parse_path("run_dir", "") == ""


@pytest.mark.parametrize("text", ["a ", "a /", "a\nb", "~\0", "\x7f"])
def test_a_path_that_a_flagfile_cannot_hold_is_refused(text):
    with pytest.raises(UsageError, match=r"^--run_dir must be a printable path"):
        parse_path("run_dir", text)


@pytest.mark.parametrize("path", ["gs:", "a/gs://b", "./gs://b", "s3:/a", "a:b//c"])
def test_a_local_path_that_looks_like_a_url_is_allowed(path):
    check_is_local(path)
    assert parse_path("run_dir", path) == path
