import json
import os
import sys

import pytest
from conftest import ROOT, run_script, write_idx_folder
from reports import EVALUATION, Page, is_affine, make_run, path_of, report

from aelab.apps.evaluation import evaluate_run
from aelab.apps.report import write_report
from aelab.config import Config
from aelab.errors import UsageError
from aelab.training.run import train_and_evaluate


def test_the_script_writes_the_same_bytes_without_tensorflow(tmp_path):
    runs = [
        make_run(tmp_path / name, evaluation=EVALUATION, panels=(1, 2))
        for name in ("a,b", "c", "d")
    ]
    report(*runs)
    expected = (tmp_path / "report.html").read_bytes()
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("tensorflow", "keras"):
        (stubs / f"{name}.py").write_text("raise SystemExit('imported')\n")
    settings = tmp_path / "matplotlibrc"
    settings.write_text("lines.linewidth: 9\nfont.size: 30\nsvg.fonttype: path\n")
    env = {"PYTHONPATH": f"{stubs}{os.pathsep}{ROOT}", "MATPLOTLIBRC": str(settings)}
    env |= {"PYTHONHASHSEED": "7", "LANG": "C", "TZ": "Asia/Tokyo"}
    output = tmp_path / "again.html"
    log = tmp_path / "c.worker-1.log"  # runs/* matches files, too
    log.write_text("Worker     1 of 2\n")
    folders = [str(runs[1]), str(log), str(runs[2])]
    arguments = (str(runs[0]), f"--output={output}", *folders)
    result = run_script("report", *arguments, env=env)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{output}: {len(expected):,} bytes\n"
    assert output.read_bytes() == expected


def test_missing_matplotlib_is_reported(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"matplotlib.*pip .*-e '\.\[report\]'"):
        report(run)
    assert not (tmp_path / "report.html").exists()


def test_a_report_on_no_runs_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--run_dir is missing"):
        write_report([], str(tmp_path / "report.html"))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("report.txt", "must end in .html"),
        ("none/a.html", "does not exist"),
        ("d.html", "is a folder"),
    ],
)
def test_a_bad_output_is_refused(tmp_path, output, words):
    (tmp_path / "d.html").mkdir()
    run = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match=rf"--output=.*{output}.*{words}"):
        write_report([str(run)], str(tmp_path / output))
    assert not [p for p in tmp_path.rglob("*.html") if p.is_file()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two short runs; only the first is evaluated."""
    folder = tmp_path_factory.mktemp("trained")
    fields = {"dataset": "idx", "data_dir": str(write_idx_folder(folder / "data"))}
    fields |= {"batch_size": 8, "log_every_steps": 3, "noise_stddev": 0.5, "epochs": 2}
    for seed in (1, 2):
        config = Config(model="dense", seed=seed, **fields)
        train_and_evaluate(config, str(folder / f"seed-{seed}"))
    evaluate_run(str(folder / "seed-1"))
    return folder


def test_a_report_on_real_runs(trained):
    html = report(trained / "seed-1", trained / "seed-2")
    page = Page(html)
    assert 'class="note"' not in html
    for number, name in enumerate(("seed-1", "seed-2")):
        text = (trained / name / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        for split, metric in (("train", "loss"), ("eval", "psnr"), ("train", "psnr")):
            entries = [line for line in lines if line["split"] == split]
            (points,) = path_of(html, f"{metric}-{split}-{number}")
            assert is_affine(points[:, 0], [line["epoch"] for line in entries])
            assert is_affine(points[:, 1], [line[metric] for line in entries])
    assert len(page.all("img")) == 4
    result = json.loads((trained / "seed-1" / "evaluation.json").read_text())
    row = page.table("", "PSNR, dB")["seed-1: output"]
    assert row["PSNR, dB"] == f"{result['metrics']['psnr']:.2f}"
    assert page.table("", "seed-1", "seed-2") == {
        "seed": {"seed-1": "1", "seed-2": "2"}
    }


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_without_horizontal_scrolling(
    trained, browser, tmp_path, width
):
    output = tmp_path / "report.html"
    write_report([str(trained / f"seed-{n}") for n in (1, 2)], str(output))
    page = browser.open(output.as_uri(), width)
    texts, pictures = page.read(lambda texts, pictures: len(pictures) == 4)
    assert {"seed-1", "seed-2"} <= set(texts)
    assert len(pictures) == 4
    root = "document.documentElement"
    assert page.run(f"{root}.scrollWidth") <= page.run(f"{root}.clientWidth") == width
    assert page.run("[...document.images].every((i) => i.naturalWidth)")
    drawn = "[...document.querySelectorAll('svg[role]')].map((s) => s.clientWidth)"
    assert min(page.run(drawn)) > 100
    loads = "performance.getEntriesByType('resource').map((load) => load.name)"
    assert [n for n in page.run(loads) if not n.startswith("data:")] == []
