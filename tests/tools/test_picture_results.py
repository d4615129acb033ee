"""The tables of tools/picture_results.py, for denoisers that were really trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import picture_results
import pytest
from common.published import PUBLISHED
from conftest import run_script
from PIL import Image

from aelab.apps.evaluation.evaluate_pictures import (
    Options,
    evaluate_pairs,
    evaluate_pictures,
)
from aelab.errors import UsageError

ENSEMBLE = Options(ensemble=True, baselines=False)
SMALL = ("--model=resunet", "--filters=2", "--loss=mse", "--image_size=16")
SMALL += ("--dataset=images", "--image_channels=1", "--validation_examples=1")
SMALL += ("--test_share=0", "--batch_size=2", "--train_steps=3", "--seeds=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of two seeds in `photos`, and pictures in `Set12` and `Pairs`."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    names = [f"Train/{i}.png" for i in range(4)] + ["Set12/a.png", "Set12/b.png"]
    for name in [*names, "Pairs/a_real.png", "Pairs/a_mean.png"]:
        (root / name).parent.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (24, 16), np.uint8)
        Image.fromarray(pixels).save(root / name)
    noise = ("--noise_stddev=25/255", "--noise_clip=false")
    study = (f"--study_dir={root / 'photos'}", f"--data_dir={root / 'Train'}")
    assert run_script("study", *study, *SMALL, *noise).returncode == 0
    return root


def run_dirs(study):
    return [str(study / "runs" / "only" / f"seed-{seed}") for seed in (0, 1)]


def write(path, *folders):
    picture_results.main(["picture_results.py", *map(str, folders), f"--output={path}"])
    return path.read_text(), json.loads(path.with_suffix(".json").read_text())


@pytest.mark.slow
def test_measured_and_published_figures_are_next_to_each_other(folder, tmp_path):
    pictures, pairs = str(folder / "Set12"), str(folder / "Pairs")
    for run_dir in run_dirs(folder / "photos"):
        levels = evaluate_pictures(run_dir, pictures, (25 / 255, 50 / 255)).levels
        evaluate_pictures(run_dir, pictures, options=ENSEMBLE)
        evaluate_pairs(run_dir, pairs, "_real.png", "_mean.png", ENSEMBLE)
    text, content = write(tmp_path / "a.md", folder / "photos")
    (row,) = content["results"]
    assert row["steps"] == 3 and row["config"]["data_dir"] == "Train"
    (at_50,) = (r for r in row["results"] if r["stddev"] == 50 / 255)
    assert at_50["psnr"]["each"][1] == levels[1].psnr
    assert at_50["baselines"].keys() == levels[1].baselines.keys()
    for name, values in levels[1].baselines.items():  # BM3D's last digits vary
        assert at_50["baselines"][name] == pytest.approx(values)
    assert f"| `photos` | Train | {row['parameters']:,} | 2 | 0 | " in text
    table = text.partition("**Set12**: 2 whole pictures, noise not clipped. ")[2]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert lines[0] == "|  | 25/255 | 50/255 |"
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    assert names[2:4] == ["noisy input", "NL means"]
    expected = [f"{name}, published" for name in PUBLISHED["Set12"]]
    expected += ["`photos`", "`photos`, ensemble"]
    assert names[-len(expected) :] == expected
    (dncnn,) = (line for line in lines if line.startswith("| DnCNN-S"))
    assert dncnn.endswith(", published | 30.44 | 27.18 |")
    mean, sd = (at_50["psnr"][key] for key in ("mean", "sd"))
    assert f" | {mean:.2f} ± {sd:.2f} |" in lines[names.index("`photos`")]
    assert lines[-1].endswith(" |  |")  # the ensemble, at 50
    assert "**Pairs**: 1 whole pictures, the noise of the files." in text
    other = row | {"study": "other", "results": [at_50 | {"input_psnr": 20.0}]}
    message = "^photos and other were evaluated on different pictures.* named Set12$"
    with pytest.raises(UsageError, match=message):
        picture_results.tables([row, other])
    for result in row["results"]:
        result["correlation"] = 0.5
    text = picture_results.tables([row])
    assert (
        "**Set12**: 2 whole pictures, noise not clipped, --noise_correlation=" in text
    )
    assert "published" not in text


@pytest.mark.slow
def test_runs_must_be_evaluated_on_the_same_pictures(folder, tmp_path):
    copy = tmp_path / "photos"
    shutil.copytree(folder / "photos", copy)
    for path in copy.glob("runs/*/*/evaluation-*.json"):
        path.unlink()
    with pytest.raises(UsageError, match="evaluate all runs on the same pictures"):
        write(tmp_path / "a.md", copy)
    evaluate_pictures(run_dirs(copy)[0], str(folder / "Set12"), options=ENSEMBLE)
    with pytest.raises(UsageError, match="evaluate all runs on the same pictures"):
        write(tmp_path / "a.md", copy)
    assert not (tmp_path / "a.md").exists()


@pytest.mark.slow
def test_an_evaluation_of_another_checkpoint_is_refused(folder, tmp_path):
    copy = tmp_path / "photos"
    shutil.copytree(folder / "photos", copy)
    for run_dir in run_dirs(copy):
        path = Path(run_dir, "evaluation-A.json")
        content = {"folder": "A", "step": 1, "levels": []}
        content |= {"pictures": 1, "ensemble": False, "precision": "float32"}
        path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"A\.json is of step 1, and the best"):
        write(tmp_path / "a.md", copy)
    for damaged in ("{", "[]", "{}"):
        Path(run_dirs(copy)[0], "evaluation-A.json").write_text(damaged)
        with pytest.raises(UsageError, match=r"A\.json is not a file of scripts/eval"):
            write(tmp_path / "a.md", copy)
