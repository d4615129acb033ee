import io
import json
import math
import re

import pytest

from aelab.summaries import metrics_log
from aelab.summaries.metrics_log import MetricsLog

NOTHING = {"train": 0, "eval": 0}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def line(step, split="train"):
    return json.dumps({"step": step, "epoch": 1.0, "split": split, "loss": 0.5}) + "\n"


def resumed(path, text, logged_step, evaluated_step):
    """The text that is left of metrics.jsonl when a run resumes with it."""
    path.write_text(text)
    MetricsLog(str(path), {"train": logged_step, "eval": evaluated_step}).close()
    return path.read_text()


def test_a_line_is_json_and_in_the_file_at_once(path):
    log = MetricsLog(str(path), NOTHING)
    log.write("train", 7, 1.23456789, {"loss": 0.1, "psnr": math.nan})
    found = json.loads(path.read_text())
    log.close()
    expected = {"step": 7, "epoch": 1.2346, "split": "train", "loss": 0.1, "psnr": None}
    assert found == expected
    assert list(found)[:3] == ["step", "epoch", "split"]


def test_a_full_disk_names_the_file_once(path):
    log = MetricsLog(str(path), NOTHING)
    log._file.close()
    log._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    with pytest.raises(OSError, match="No space left") as error:
        log.write("train", 7, 1.0, {"loss": 0.1})
    log.close()
    assert error.value.filename == str(path)
    assert re.search(r"\(\d+ bytes were wanted, [\d,]+ are free\)", str(error.value))


def test_a_line_that_is_cut_off_is_removed(path, monkeypatch):
    log = MetricsLog(str(path), NOTHING)
    log.write("train", 7, 1.0, {"loss": 0.1})
    before, whole = path.read_bytes(), log._file

    class Half:
        """A file on a disk that has room for half of a line."""

        def __getattr__(self, name):
            return getattr(whole, name)

        def write(self, content):
            return whole.write(content[: len(content) // 2])

    monkeypatch.setattr(log, "_file", Half())
    with pytest.raises(OSError, match="No space left"):
        log.write("train", 8, 1.1, {"loss": 0.1})
    assert path.read_bytes() == before
    whole.close()


def test_lines_up_to_the_state_stay(path):
    text = line(5) + line(10) + line(10, "eval")
    assert resumed(path, text, logged_step=10, evaluated_step=10) == text


def test_lines_ahead_of_the_state_are_dropped(path):
    kept = line(5) + line(10) + line(10, "eval")
    text = kept + line(15) + line(20) + line(20, "eval")
    assert resumed(path, text, logged_step=10, evaluated_step=10) == kept


def test_an_evaluation_that_the_state_does_not_know_is_dropped(path):
    text = line(10) + line(10, "eval")
    assert resumed(path, text, logged_step=10, evaluated_step=5) == line(10)


@pytest.mark.parametrize(
    "torn", ['{"step": 11, "ep', "\x00\x00", "[]\n", '{"step": 5}\n', "5\n"]
)
def test_an_incomplete_or_foreign_line_is_dropped(path, torn):
    assert resumed(path, line(5) + torn, logged_step=50, evaluated_step=50) == line(5)


def test_a_whole_line_without_its_end_is_dropped(path):
    text = line(5) + line(10)[:-1]
    assert resumed(path, text, logged_step=50, evaluated_step=50) == line(5)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", 0),
        (line(5), 5),
        (line(5) + line(10)[:-1], 5),
        (line(5) + line(10), 10),  # without the evaluation's
    ],
)
def test_lost_lines_are_reported(path, capsys, text, left):
    resumed(path, text, logged_step=10, evaluated_step=10)
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"{path} has lost lines" in warning
    assert f"up to step 10, and the last one left is of step {left};" in warning


def test_a_lost_file_is_reported(path, capsys):
    MetricsLog(str(path), {"train": 5, "eval": 0}).close()
    assert f"{path} has lost lines" in capsys.readouterr().err


@pytest.mark.parametrize(("logged", "evaluated"), [(0, 0), (5, 0), (10, 10), (15, 10)])
def test_a_whole_file_is_not_reported(path, capsys, logged, evaluated):
    text = line(5) + line(10) + line(10, "eval") + line(15)
    resumed(path, text, logged, evaluated)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("block", [1, 30, 1 << 16])
@pytest.mark.parametrize("until", [0, 5, 11, 12])
def test_the_size_of_the_blocks_that_are_read_does_not_matter(
    path, monkeypatch, block, until
):
    monkeypatch.setattr(metrics_log, "_BLOCK", block)
    lines = [line(step) for step in range(1, 13)]
    text = "".join(lines) + '{"step": 13, "sp'
    assert resumed(path, text, until, until) == "".join(lines[:until])


def test_a_long_log_is_read_from_its_end_only(path, monkeypatch):
    """10,000,000 steps with a line per hundred steps."""
    lines = [line(step) for step in range(100, 10_000_001, 100)]
    read = []

    class Counting(io.FileIO):
        def read(self, size=-1):
            content = super().read(size)
            read.append(len(content))
            return content

    def open_counting(path, mode):
        return Counting(path, mode) if "+" in mode else open(path, mode)

    monkeypatch.setattr(metrics_log, "open", open_counting, raising=False)
    path.write_text("".join(lines))
    until = 10_000_000 - 500
    metrics_log._truncate(str(path), {"train": until, "eval": 0})
    assert path.read_text() == "".join(lines[:-5])
    assert sum(read) < 100_000


def test_new_lines_follow_the_old_ones(path):
    resumed(path, line(5), logged_step=5, evaluated_step=0)
    log = MetricsLog(str(path), {"train": 5, "eval": 0})
    log.write("train", 10, 1.0, {"loss": 0.5})
    log.close()
    assert path.read_text() == line(5) + line(10)
