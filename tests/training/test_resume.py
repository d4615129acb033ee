"""Runs and files of earlier and later releases.

tests/data/release-0.1.0 has a run of three epochs and a compressed file of its model.
It also has the results of release 0.1.0: the weights and metrics after three more
epochs, and the decompressed images.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TIMES

from aelab.apps.compression import decompress
from aelab.apps.evaluation import evaluate_run
from aelab.apps.export import export
from aelab.data.idx import read_idx
from aelab.errors import FormatError, UsageError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.training.run import train_and_evaluate

RELEASE = ROOT / "tests/data/release-0.1.0"


@pytest.fixture
def run(tmp_path):
    """A copy of the run of release 0.1.0."""
    return RunDirectory(str(shutil.copytree(RELEASE / "run", tmp_path / "run")))


def resume(run, epochs):
    config = run.read_config()
    longer = type(config)(**vars(config) | {"epochs": epochs})
    return train_and_evaluate(longer, run.path)


def lines(path):
    """The lines of a metrics file, without times."""
    found = map(json.loads, Path(path).read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in TIMES} for line in found]


def test_a_run_of_release_0_1_0_ends_with_its_weights(run):
    """Up to rounding, which differs between processors."""
    start = checkpoints.load(checkpoints.newest(run.latest))
    config = run.read_config()
    assert (config.mirror, config.max_shift, config.optimizer_args) == (True, 1, "")
    resume(run, epochs=6)
    found = checkpoints.load(checkpoints.newest(run.latest))
    with np.load(RELEASE / "weights-at-step-60.npz") as expected:
        assert len(expected) == 4
        for name, array in expected.items():
            moved = np.linalg.norm(array - start[name])
            assert np.linalg.norm(found[name] - array) <= 1e-4 * moved, name
    ours = lines(run.metrics_jsonl)
    theirs = lines(RELEASE / "metrics-at-step-60.jsonl")
    assert [list(line) for line in ours] == [list(line) for line in theirs]
    for mine, right in zip(ours, theirs, strict=True):
        assert mine.pop("split") == right.pop("split")
        assert mine == pytest.approx(right, rel=1e-4)
    content = json.loads(Path(run.config_json).read_text())
    assert content["format"] == 2
    assert content["mirror"] is True


def test_a_run_of_release_0_1_0_is_evaluated_and_exported(run, tmp_path):
    result = evaluate_run(run.path, baselines=False)
    *_, last = (line for line in lines(run.metrics_jsonl) if line["split"] == "eval")
    assert result.metrics["psnr"] == pytest.approx(last["psnr"], rel=1e-5)
    assert export(run.path, str(tmp_path / "model.keras")) == 30
    assert (tmp_path / "model.keras").exists()


def test_a_file_of_release_0_1_0_is_decompressed(run, tmp_path):
    """To the same pixels, up to one gray level on another processor."""
    done = decompress(run.path, str(RELEASE / "images.aelab"), str(tmp_path / "out"))
    (path,) = done.files
    expected = read_idx(str(RELEASE / "t10k-images-idx3-ubyte.gz"), 3)
    assert np.abs(read_idx(path, 3).astype(int) - expected).max() <= 1


def test_a_checkpoint_of_a_later_release_is_not_taken_for_damaged(run):
    path = checkpoints.newest(run.latest)
    arrays = checkpoints.load(path)
    np.savez(path, format=np.int64(3), **arrays)
    with pytest.raises(FormatError, match=r"has format 3, .* up to 2"):
        resume(run, epochs=6)
    assert checkpoints.newest(run.latest) == path


def test_a_configuration_with_an_unknown_field_is_refused(run):
    content = json.loads(Path(run.config_json).read_text())
    Path(run.config_json).write_text(json.dumps(content | {"dropout": 0.5}))
    with pytest.raises(UsageError, match="does not know: dropout"):
        evaluate_run(run.path, baselines=False)


def test_other_versions_are_reported(run, capsys):
    content = json.loads(Path(run.config_json).read_text())
    content["versions"]["keras"] = "3.0.0"
    Path(run.config_json).write_text(json.dumps(content))
    resume(run, epochs=4)
    assert "with other versions than before (keras 3.0.0 -> " in capsys.readouterr().out
