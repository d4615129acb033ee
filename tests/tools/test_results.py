"""What tools/results.py writes of studies that were trained for real."""

import json

import pytest
import results
from common.result_page import BEGIN, END, Machines, replace_rows
from conftest import run_script

from aelab.errors import UsageError

SMALL = ("--train_examples=64", "--batch_size=16", "--epochs=1", "--optimizer=adam")
TESTS = "--eval_examples=16"


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two evaluated studies: two seeds with a part that validates, and a denoiser."""
    folder = tmp_path_factory.mktemp("studies")
    dense = ("--model=dense", *SMALL, "--validation_examples=8", "--seeds=2")
    noisy = ("--model=dense", *SMALL, TESTS, "--noise_stddev=0.5")
    for name, flags in (("dense", dense), ("noisy", noisy)):
        command = [f"--study_dir={folder / name}", *flags, "--evaluate"]
        result = run_script("study", *command)
        assert result.returncode == 0, result.stderr
    return folder


def write(path, *folders):
    results.main(["results.py", *map(str, folders), f"--output={path}"])
    return path.read_text(), json.loads(path.with_suffix(".json").read_text())


@pytest.mark.slow
def test_the_tables_have_the_means_of_the_test_part(studies, tmp_path):
    text, content = write(tmp_path / "a.md", studies / "dense", studies / "noisy")
    dense, noisy = content["results"]
    each = []
    for seed in (0, 1):
        path = studies / "dense" / "runs" / "only" / f"seed-{seed}" / "evaluation.json"
        each.append(json.loads(path.read_text())["metrics"]["psnr"])
    psnr = dense["metrics"]["psnr"]
    assert psnr["each"] == each and psnr["mean"] == pytest.approx(sum(each) / 2)
    assert psnr["sd"] == pytest.approx(abs(each[0] - each[1]) / 2**0.5)
    assert noisy["metrics"]["psnr"]["sd"] is None
    assert dense["config"]["validation_examples"] == 8
    # Each has its own data: the parts differ.
    assert "**synthetic**: 64 training, 8 validation and 10,000 test images. " in text
    assert "**synthetic**: 64 training and 16 test images. Metrics of the " in text
    (row,) = [line for line in text.splitlines() if line.startswith("| `dense` ")]
    assert f"| 50,992 | 2 | {psnr['mean']:.2f} ± {psnr['sd']:.2f} |" in row
    components = dense["baselines"]["principal_components"]
    assert f"32 principal components {components['psnr']:.2f} (better) |" in row
    (row,) = [line for line in text.splitlines() if line.startswith("| `noisy` ")]
    assert "| 1 | " in row and "noisy input " in row and "linear estimator " in row


@pytest.mark.slow
def test_text_around_the_tables_is_kept(studies, tmp_path):
    path = tmp_path / "a.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    text, _ = write(path, studies / "noisy")
    assert text.startswith(f"before\n{BEGIN}\n\n**synthetic**")
    assert text.endswith(f"\n\n{END}\nafter\n") and "old" not in text
    path.write_text("mine")
    with pytest.raises(UsageError, match="has no place"):
        write(path, studies / "noisy")
    assert path.read_text() == "mine"


@pytest.mark.slow
def test_rows_of_other_studies_are_kept(studies, tmp_path):
    path = tmp_path / "a.md"
    both, content = write(path, studies / "dense", studies / "noisy")
    write(path, studies / "dense")  # replaced, in its place
    assert write(path, studies / "noisy") == (both, content)
    path.with_suffix(".json").unlink()
    write(path, studies / "noisy")
    text, content = write(path, studies / "dense")  # added
    assert [row["study"] for row in content["results"]] == ["noisy", "dense"]
    assert text.index("`noisy`") < text.index("`dense`")
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(UsageError, match="not a file of this tool"):
        write(path, studies / "noisy")
    assert path.read_text() == text


def test_a_study_that_shrinks_leaves_no_old_rows():
    old = [{"study": s, "variant": v} for s, v in ("aw", "bx", "by", "cz")]
    new = [{"study": "b", "variant": "n"}]
    assert replace_rows(old, new) == [old[0], *new, old[3]]
    assert replace_rows([], new) == new


def test_letters_tell_several_processors_apart():
    def row(*models):
        machines = [{"cpu": "X", "cpu_model": m, "threads": 1} for m in models]
        versions = [{"tensorflow": "2.21.0"}]
        return {"machines": machines, "versions": versions, "minutes": {"mean": 1.25}}

    single = Machines([row("m1")])
    assert single.text() == "X (m1), with TensorFlow 2.21.0"
    assert single.minutes(row("m1")) == "1.2 on 1 core"
    both = Machines([row("m2"), row("m1", "m2")])
    assert both.text() == "(a) X (m1), (b) X (m2), with TensorFlow 2.21.0"
    assert both.minutes(row("m2")) == "1.2 on 1 core (b)"
    assert both.minutes(row("m1", "m2")) == "1.2 on 1 core (a, b)"


@pytest.mark.slow
def test_bytes_of_compressed_files_are_shown(studies, tmp_path):
    points = [{"setting": "seed-0", "bytes": 4.75, "psnr": 20.5}]
    points += [{"setting": "AVIF", "bytes": 9.0, "psnr": 22.0}]
    path = studies / "noisy" / "rate_distortion.json"
    path.write_text(json.dumps({"points": points}))
    text, content = write(tmp_path / "a.md", studies / "noisy")
    assert "4.75 bytes per image in a file at 20.50 dB" in text
    assert content["results"][0]["file"]["bytes"]["each"] == [4.75]
    path.rename(studies / "dense" / "rate_distortion.json")  # of one seed of two
    with pytest.raises(UsageError, match="each seed"):
        write(tmp_path / "a.md", studies / "dense")
    (studies / "dense" / "rate_distortion.json").unlink()


@pytest.mark.slow
def test_a_run_that_is_not_evaluated_is_named(studies, tmp_path):
    run_dir = studies / "noisy" / "runs" / "only" / "seed-0"
    hidden = run_dir / "hidden.json"
    (run_dir / "evaluation.json").rename(hidden)
    with pytest.raises(UsageError, match=r"seed-0 is not evaluated"):
        write(tmp_path / "a.md", studies / "noisy")
    hidden.rename(run_dir / "evaluation.json")
    assert not (tmp_path / "a.md").exists()


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no study"):
        write(tmp_path / "a.md", tmp_path)
    with pytest.raises(UsageError, match="same name"):
        write(tmp_path / "a.md", tmp_path / "b", tmp_path / "c" / "b")
    with pytest.raises(UsageError, match="STUDY is missing"):
        results.main(["results.py", f"--output={tmp_path / 'a.md'}"])
    with pytest.raises(UsageError, match=r"must end with \.md"):
        results.main(["results.py", str(tmp_path), f"--output={tmp_path / 'a.json'}"])
