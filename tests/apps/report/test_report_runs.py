import re
import shutil

import pytest
from reports import EVALUATION, Page, make_run, report

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
def test_a_folder_without_a_run_is_left_out_with_a_warning(
    tmp_path, content, words, capsys
):
    run, good = tmp_path / "run", make_run(tmp_path / "good")
    run.mkdir()
    if content is not None:
        (run / "config.json").write_bytes(content)
    page = Page(report(good, run, tmp_path / "none"))
    assert list(page.table("", "last epoch")) == ["good"]
    bad, none = capsys.readouterr().err.splitlines()
    assert bad.startswith("warning: ") and str(run) in bad and words in bad
    assert none.startswith(f"warning: --run_dir={tmp_path}/none holds no run")


def test_a_report_without_any_run_is_refused(tmp_path, capsys):
    with pytest.raises(UsageError, match=r"a holds no run: .* \(1 more hold none"):
        report(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "report.html").exists()
    assert capsys.readouterr().err == ""


def test_a_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        report(make_run(tmp_path / "run") / "config.json")


def test_a_run_under_two_names_counts_once(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    page = Page(report(run, tmp_path / "link", run))
    assert list(page.table("", "last epoch")) == ["run"]


def many_runs(folder, psnrs):
    """A run for each PSNR, named r0, r1 and so on; its first evaluation is better."""
    runs = []
    for number, psnr in enumerate(psnrs):
        line = {"step": 1, "epoch": 1, "split": "eval", "loss": 0.5, "psnr": 99}
        lines = [line, line | {"step": 2, "loss": 0.4, "psnr": psnr}]
        runs.append(make_run(folder / f"r{number}", lines))
    return runs


def drawn(html):
    """The names of the runs whose curves are drawn."""
    return re.findall(r"</svg>([^<]*)</li>", html)


def test_all_runs_are_in_the_table_and_the_best_18_in_the_curves(tmp_path, capsys):
    psnrs = [*range(10, 20), None, *range(10), 20]
    html = report(*many_runs(tmp_path, psnrs))
    page = Page(html)
    assert len(page.table("", "last epoch")) == len(psnrs) == 22
    worst = {"r10", "r11", "r12", "r13"}  # without a PSNR, 0, 1, 2
    assert drawn(html) == [f"r{n}" for n in range(22) if f"r{n}" not in worst]
    sentence = "Curves are drawn of 18 of the 22 runs"
    assert sentence in page.texts and "18 of highest PSNR" in page.texts
    assert f"warning: {sentence}" in capsys.readouterr().err


def test_all_evaluations_are_in_the_table(tmp_path):
    runs = [make_run(tmp_path / str(n), evaluation=EVALUATION) for n in range(101)]
    assert len(Page(report(*runs)).table("", "PSNR, dB", "SSIM")) == 202


def test_curves_of_named_runs(tmp_path):
    names = ("a", "a,b", "b", "c")
    runs = [make_run(tmp_path / name) for name in names]
    assert drawn(report(*runs)) == list(names)
    assert drawn(report(*runs, curves="b,a,b")) == ["a,b", "b"]
    assert drawn(report(*runs, curves="c,a")) == ["a", "c"]
    with pytest.raises(
        UsageError, match=r"^--curves=a,d: 'd' is not the name of a run"
    ):
        report(*runs, curves="a,d")


def test_more_than_18_named_runs_are_refused(tmp_path):
    runs = many_runs(tmp_path, range(19))
    curves = ",".join(f"r{number}" for number in range(19))
    with pytest.raises(UsageError, match=f"^--curves={curves}: .* at most 18"):
        report(*runs, curves=curves)


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
