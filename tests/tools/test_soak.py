"""The differences that tools/soak.py counts as losses; the soak is run by hand."""

import json
import random
import shutil

import numpy as np
import pytest
import soak
from conftest import run_script
from soaking.comparison import differences, flaws
from soaking.stops import draw_stop

from aelab.errors import UsageError
from aelab.runs import checkpoints

STEP = 12


def lines(count):
    return [
        json.dumps({"step": step, "split": "train", "images_per_second": step / 3})
        for step in range(1, count + 1)
    ]


@pytest.fixture
def reference(tmp_path):
    """The files of a complete run of twelve steps."""
    run_dir = tmp_path / "reference"
    arrays = {
        "step": np.asarray(STEP),
        "model/kernel": np.ones([3, 3], np.float32),
        "progress/logged_step": np.asarray(STEP),
        "progress/evaluated_step": np.asarray(0),
    }
    for kind in ("latest", "best"):
        checkpoints.save(str(run_dir / "checkpoints" / kind), STEP, arrays)
    (run_dir / "metrics.jsonl").write_text("\n".join([*lines(STEP), ""]))
    (run_dir / "images").mkdir()
    for name in ("panel-00000006.png", "panel-00000012.png"):
        (run_dir / "images" / name).write_bytes(name.encode())
    return run_dir


@pytest.fixture
def run_dir(reference, tmp_path):
    """A run that differs from its reference run only in times."""
    run_dir = tmp_path / "run"
    shutil.copytree(reference, run_dir)
    metrics = run_dir / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('_second": 1', '_second": 7'))
    return run_dir


def change_a_byte(path):
    """In a checkpoint the header of an array; nothing reads some bytes of ZIP files."""
    content = bytearray(path.read_bytes())
    content[content.find(b"NUMPY") + 1] ^= 1
    path.write_bytes(content)


def save(run_dir, kind, step, changed=None):
    folder = str(run_dir / "checkpoints" / kind)
    _, arrays = checkpoints.load_newest(folder)
    checkpoints.save(folder, step, arrays | (changed or {}))


def drop_a_line(run_dir):
    text = (run_dir / "metrics.jsonl").read_text()
    (run_dir / "metrics.jsonl").write_text("".join(text.splitlines(True)[:-1]))


def double_a_line(run_dir):
    text = (run_dir / "metrics.jsonl").read_text()
    (run_dir / "metrics.jsonl").write_text(text + text.splitlines(True)[-1])


def change_a_line(run_dir):
    text = (run_dir / "metrics.jsonl").read_text()
    (run_dir / "metrics.jsonl").write_text(text.replace('"step": 3', '"step": 4'))


def tear_the_last_line(run_dir):
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.write('{"step": 13')


def tear_the_first_line(run_dir):
    text = (run_dir / "metrics.jsonl").read_text()
    (run_dir / "metrics.jsonl").write_text('{"st\n' + text)


IMAGE = "panel-00000006.png"
CHECKPOINT = f"step-{STEP:08}.npz"
DAMAGES = {
    "latest: different weights": (
        lambda run: save(run, "latest", STEP, {"model/kernel": np.zeros([3, 3])}),
        "latest: step-00000012.npz has different bytes: model/kernel",
    ),
    "latest: damaged": (
        lambda run: change_a_byte(run / "checkpoints/latest" / CHECKPOINT),
        "latest: ",
    ),
    "best: damaged": (
        lambda run: change_a_byte(run / "checkpoints/best" / CHECKPOINT),
        "best: ",
    ),
    "latest: missing": (
        lambda run: shutil.rmtree(run / "checkpoints/latest"),
        "latest: checkpoint None",
    ),
    "later step": (lambda run: save(run, "latest", 13), "latest: step-00000013.npz"),
    "different best": (lambda run: save(run, "best", 13), "best: step-00000013.npz"),
    "missing line": (drop_a_line, "metrics.jsonl: 11 lines"),
    "one line twice": (double_a_line, "metrics.jsonl: 13 lines"),
    "different line": (change_a_line, "metrics.jsonl: line 3"),
    "torn last line": (tear_the_last_line, "metrics.jsonl: the last line has no end"),
    "torn first line": (
        tear_the_first_line,
        "metrics.jsonl: line 1 is not a JSON",
    ),
    "missing image": (
        lambda run: (run / "images" / IMAGE).unlink(),
        f"images: missing: {IMAGE}",
    ),
    "different image": (
        lambda run: change_a_byte(run / "images" / IMAGE),
        "images: different",
    ),
    "additional image": (
        lambda run: (run / "images/panel-00000007.png").touch(),
        "images: not in the reference run: panel-00000007.png",
    ),
    "unfinished file": (
        lambda run: (run / "images/.tmp-panel.png").touch(),
        "images/.tmp-panel.png was left over",
    ),
}


def test_a_run_equal_to_its_reference_has_no_differences(run_dir, reference):
    assert (run_dir / "metrics.jsonl").read_text() != (
        reference / "metrics.jsonl"
    ).read_text()
    assert differences(run_dir, reference) == []
    assert flaws(run_dir, reference, STEP) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_difference_is_found(run_dir, reference, damage):
    do, message = DAMAGES[damage]
    do(run_dir)
    (found,) = differences(run_dir, reference)
    assert found.startswith(message)


def test_a_stopped_run_may_lack_what_comes_later(run_dir, reference):
    earlier = {"step": np.asarray(8), "progress/logged_step": np.asarray(8)}
    save(run_dir, "latest", 8, earlier)
    drop_a_line(run_dir)
    tear_the_last_line(run_dir)
    (run_dir / "images/panel-00000012.png").unlink()
    (run_dir / "images/.tmp-panel-00000012.png").touch()
    assert flaws(run_dir, reference, 8) == []
    assert flaws(run_dir, reference, -1) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("latest: damaged", "the newest checkpoint can't be loaded"),
        ("latest: missing", "checkpoint of step 12 is gone"),
        ("missing line", "lines before the checkpoint of step 12 are gone"),
        ("one line twice", "metrics.jsonl: 13 lines"),
        ("different line", "metrics.jsonl: line 3"),
        ("torn first line", "metrics.jsonl: line 1"),
        ("different image", "images: different bytes"),
        ("additional image", "images: not in the reference run: panel-00000007.png"),
    ],
)
def test_a_flaw_of_a_stopped_run_is_found(run_dir, reference, damage, message):
    DAMAGES[damage][0](run_dir)
    (found,) = flaws(run_dir, reference, STEP)
    assert found.startswith(message)


def test_stops_follow_from_the_seed():
    first, again, other = (
        [draw_stop(random.Random(seed)) for _ in range(100)] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_every_kind_of_stop_is_drawn():
    generator = random.Random(0)
    stops = [draw_stop(generator) for _ in range(100)]
    kinds = {stop.kind for stop in stops}
    assert kinds == {"SIGKILL", "SIGTERM", "SIGINT", "SIGTERM twice"}
    assert {stop.in_startup for stop in stops} == {True, False}


@pytest.mark.parametrize(
    ("flag", "names"),
    [
        ("--kills=many", ["--kills", "'many'"]),
        ("--kills=-1", ["--kills", "at least 0"]),
        ("--study_kills=many", ["--study_kills", "'many'"]),
        ("--seed=1.5", ["--seed", "'1.5'"]),
        ("--variants=single,double", ["--variants", "mirrored", "double"]),
        ("--variants=", ["--variants", "single"]),
        ("--full_disk=perhaps", ["--full_disk", "true", "false"]),
    ],
)
def test_a_bad_flag_is_an_error(flag, names, capsys):
    with pytest.raises(UsageError) as error:
        soak.main(["soak.py", "--kills=0", "--variants=none", flag])
    assert capsys.readouterr().out == ""
    assert all(name in str(error.value) for name in names)


def test_a_work_folder_must_be_empty(tmp_path):
    (tmp_path / "mine").touch()
    result = run_script("soak", f"--work_dir={tmp_path}")
    assert (result.returncode, result.stdout) == (2, "")
    assert f"--work_dir={tmp_path} must be empty" in result.stderr


def test_with_every_part_off_the_table_is_empty():
    off = [f"--{part}=false" for part in ("full_disk", "fuzz")]
    result = run_script("soak", "--variants=none", "--study_kills=0", *off)
    assert (result.returncode, result.stderr) == (0, "")
    assert "| variant | stops |" in result.stdout
