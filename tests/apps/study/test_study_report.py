"""The report of a study."""

import base64
import json
import sys

import pytest
import study
from made_up import write_study
from reports import Page, make_run, report

from aelab.apps.report.studies import read_studies
from aelab.errors import UsageError

VARY = "learning_rate=0.5,1"
NAMES = {f"learning_rate={rate}/seed-{seed}" for seed in (0, 1) for rate in (0.5, 1.0)}


def cells(line):
    """The cells of a row in Markdown."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_page_begins_with_the_table_and_the_picture_of_a_study(tmp_path):
    folder = tmp_path / "rates"
    write_study(folder, VARY, psnrs=[20.0, 21.0, 20.25, 21.5], metrics=["psnr"])
    study.main(["study.py", f"--study_dir={folder}", "--table_only"])
    page = Page(report(folder))
    head, _, *rows = (folder / "table.md").read_text().splitlines()[:4]
    assert page.tables[0] == [*map(cells, [head, *rows])]
    assert page.texts.index("Study rates") < page.texts.index("Differences from")
    assert page.texts.index("Differences from") < page.texts.index("Runs")
    (picture,) = page.all("img")
    png = base64.b64decode(picture["src"].removeprefix("data:image/png;base64,"))
    assert png == (folder / "plot.png").read_bytes()
    assert page.texts.split()[:2] == ["Report:", "rates"]
    assert page.table("", "last epoch").keys() == NAMES


def test_a_study_is_shown_while_it_trains(tmp_path):
    write_study(tmp_path / "new", VARY)
    page = Page(report(tmp_path / "new"))
    assert page.tables[0][1][:2] == ["learning_rate=0.5", "0 of 2 seeds"]
    write_study(tmp_path / "begun", VARY, psnrs=[20.0, 21.0, 20.25])
    page = Page(report(tmp_path / "begun"))
    assert [row[1] for row in page.tables[0]] == ["n", "2", "1 of 2 seeds"]
    assert len(page.table("", "last epoch")) == 3


def test_several_studies_and_runs_are_on_one_page(tmp_path):
    """A run of a study that is also given by itself is there once."""
    runs = write_study(tmp_path / "a", VARY, psnrs=[20.0, 21.0])
    other, inside = make_run(tmp_path / "other"), runs[0]
    page = Page(report(tmp_path / "a", other, inside))
    names = {"learning_rate=0.5/seed-0", "learning_rate=1.0/seed-0", "other"}
    assert page.table("", "last epoch").keys() == names
    assert "Report: a, other" in page.texts
    write_study(tmp_path / "b", VARY, psnrs=[20.0])
    page = Page(report(tmp_path / "a", other, tmp_path / "b", tmp_path / "b"))
    assert page.texts.index("Study a") < page.texts.index("Study b")
    assert len(page.table("", "last epoch")) == 4
    assert "b/runs/learning_rate=0.5/seed-0" in page.table("", "last epoch")


def damage(path, **changes):
    """Changes the values of a study.json."""
    values = json.loads(path.read_text())
    for name, value in changes.items():
        part, _, key = name.partition("__")
        (values[part] if key else values)[key or part] = value
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "changes",
    [
        {"description": 3},
        {"description__seeds": 0},
        {"description__variants": []},
        {"description__variants": [{"name": "x", "flags": {"loss": 3}}]},
        {"description__variants": [{"name": "x", "flags": {"loss": "l7"}}]},
        {"description__config": {"batch_size": "many"}},
        {"format": 99},
        {"shown": []},
        {"shown": 3},
        {"shown__metrics": "psnr"},
        {"shown__metrics": 3},
        {"shown__metrics": [3]},
        {"shown__on_test": "no"},
        {"shown__baseline": "other"},
        {"shown__objective": None},
    ],
)
def test_a_bad_study_is_refused_with_its_path(tmp_path, changes):
    write_study(tmp_path, VARY, psnrs=[20.0])
    damage(tmp_path / "study.json", **changes)
    studies, refused = read_studies([str(tmp_path)])
    assert studies == [] and refused.keys() == {str(tmp_path)}


def test_a_bad_study_is_left_out_with_a_warning(tmp_path, capsys):
    folder = tmp_path / "bad"
    write_study(folder, VARY, psnrs=[20.0])
    (folder / "study.json").write_text("{")
    page = Page(report(folder, make_run(tmp_path / "good")))
    assert page.table("", "last epoch").keys() == {"good"}
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {folder}/study.json is not JSON")
    assert warning.endswith("; it is left out")
    with pytest.raises(UsageError, match=r"study\.json is not JSON"):
        report(folder)


def test_a_damaged_run_of_a_study_is_left_out_with_a_warning(tmp_path, capsys):
    run, _ = write_study(tmp_path / "study", VARY, seeds=1, psnrs=[20.0, 21.0])
    (run / "config.json").write_text("{")
    page = Page(report(tmp_path / "study"))
    assert page.table("", "last epoch").keys() == {"learning_rate=1.0/seed-0"}
    assert str(run) in capsys.readouterr().err
    assert [row[1] for row in page.tables[0]] == ["n", "0 of 1 seed", "1"]


def test_a_missing_scipy_is_reported(tmp_path, monkeypatch):
    write_study(tmp_path / "study", VARY)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UsageError, match=r"scipy.*-e '\.\[study\]'"):
        report(tmp_path / "study", make_run(tmp_path / "good"))
