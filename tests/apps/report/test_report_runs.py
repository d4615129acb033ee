import shutil

import pytest
from reports import EVALUATION, Page, make_run, report

from aelab.apps.report import write_report
from aelab.apps.report.runs import names
from aelab.errors import UsageError


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no run"),
        (b"{", "not JSON"),
        (b"\xff", "holds no run"),
        (b"[1]", "JSON object"),
        (b'{"name": "other"}', "no field of a configuration"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_folder_without_a_run_is_refused(tmp_path, content, words):
    run, good = tmp_path / "run", make_run(tmp_path / "good")
    run.mkdir()
    if content is not None:
        (run / "config.json").write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        report(good, run)
    assert str(run) in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_a_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        report(make_run(tmp_path / "run") / "config.json")


def test_one_run_under_two_names_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    with pytest.raises(UsageError, match=r"run.*link|link.*run"):
        report(run, tmp_path / "link")
    with pytest.raises(UsageError, match="same directory"):
        write_report([str(run)] * 2, str(tmp_path / "report.html"))


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/x/a", "/y/b/"], ["a", "b"]),
        (["/x/run", "/x/y/run"], ["run", "y/run"]),
        (["/x/1/run", "/x/2/run", "/x/2/b"], ["1/run", "2/run", "2/b"]),
        (["/x/run", "/x/run/b/run"], ["run", "run/b/run"]),
        (["/"], ["/"]),
    ],
)
def test_names_of_runs_differ(paths, expected):
    assert names(paths) == expected


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [
        ("metrics.jsonl", True),
        ("metrics.jsonl", False),
        ("evaluation.json", True),
        ("evaluation.json", False),
        ("images", False),
    ],
)
def test_a_damaged_file_is_reported_and_the_rest_is_shown(tmp_path, name, is_folder):
    run = make_run(tmp_path / "run", evaluation=EVALUATION, panels=(1,))
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.mkdir() if is_folder else path.write_bytes(b"\x80 rubbish\n")
    page = Page(report(run))
    assert f"run: {name}" in page.texts
    assert ("Loss" in page.texts) == (name != "metrics.jsonl")
    assert bool(page.all("img")) == (name != "images")
    assert ("18.57" in page.texts) == (name != "evaluation.json")


def test_missing_files_leave_the_rest(tmp_path):
    run = make_run(tmp_path / "run", panels=(1,))
    shutil.rmtree(run / "images")
    (run / "metrics.jsonl").unlink()
    page = Page(report(run))
    assert "run: There are no metrics yet." in page.texts
    assert page.table("", "value")["model"] == {"value": "conv"}


def test_an_incomplete_picture_is_reported(tmp_path):
    run = make_run(tmp_path / "run", panels=(1, 2))
    path = run / "images" / "panel-00000002.png"
    path.write_bytes(path.read_bytes()[:-3])
    page = Page(report(run))
    assert "panel-00000002.png is not a complete PNG file" in page.texts
    assert len(page.all("img")) == 1
