import pytest
import tensorflow as tf
from conftest import run_script

from aelab.config import Config
from aelab.errors import UsageError
from aelab.summaries.profile import Profile
from aelab.training.run import train_and_evaluate

CONFIG = {"model": "dense", "train_examples": 200, "eval_examples": 20, "epochs": 1}


def written(folder):
    return list(folder.rglob("plugins/profile/*/*.xplane.pb"))


def test_a_run_writes_a_profile_of_the_requested_steps(tmp_path):
    plain = Config(**CONFIG, batch_size=20, steps_per_loop=4)
    profiled = Config(**CONFIG, batch_size=20, steps_per_loop=4, profile_steps="3:5")
    expected = train_and_evaluate(plain, str(tmp_path / "plain"))
    assert train_and_evaluate(profiled, str(tmp_path / "run")) == expected
    assert written(tmp_path / "run" / "tensorboard")
    assert not written(tmp_path / "plain")


def test_a_profile_that_begins_in_the_last_steps_is_written(tmp_path):
    config = Config(**CONFIG, batch_size=20, profile_steps="9:1000")
    train_and_evaluate(config, str(tmp_path / "run"))
    assert written(tmp_path / "run")


def test_a_profile_that_fails_gives_a_warning(tmp_path, capsys):
    tf.profiler.experimental.start(str(tmp_path / "other"))
    try:
        with Profile(str(tmp_path / "mine")) as profile:
            profile.run(True)
            profile.run(True)
    finally:
        tf.profiler.experimental.stop()
    assert capsys.readouterr().err.count("no profile could be written") == 1
    assert not written(tmp_path / "mine")


def test_a_worker_without_files_takes_no_profile(tmp_path):
    with Profile("") as profile:
        profile.run(True)
        # It would raise if the profiler were running.
        tf.profiler.experimental.start(str(tmp_path))
        tf.profiler.experimental.stop()


@pytest.mark.parametrize(
    "text",
    ["3", "5:3", "3:3", "a:b", "-1:3", "1:2:3", ":", "1:", "1:" + "9" * 5000],
)
def test_steps_that_are_not_a_pair_are_refused(text):
    with pytest.raises(UsageError, match=r"--profile_steps must be two steps.*100:120"):
        Config(profile_steps=text)


def test_the_table_sums_the_times_of_the_profile(tmp_path):
    # Of ten steps two are in it; what is beyond the end does not count.
    config = Config(**CONFIG, batch_size=20, profile_steps="8:1000")
    train_and_evaluate(config, str(tmp_path / "run"))
    found = run_script("profile_table", f"--run_dir={tmp_path}/run")
    assert found.returncode == 0, found.stderr
    head, _, *rows = [line.split("|") for line in found.stdout.splitlines()]
    assert [cell.strip() for cell in head[1:-1]] == [
        *("operation", "a step", "ms a step", "share"),
    ]
    named = {row[1].strip(): row for row in rows}
    products = [name for name in named if "MatMul" in name and "backward" not in name]
    assert products
    # One for each of the two layers.
    assert sum(float(named[name][2]) for name in products) == 2.0
    milliseconds = [float(row[3]) for row in rows]
    assert sum(milliseconds[:-1]) <= milliseconds[-1] + 0.05
    assert milliseconds[:-1] == sorted(milliseconds[:-1], reverse=True)


def test_without_a_profile_the_message_has_the_flag(tmp_path):
    found = run_script("profile_table", f"--run_dir={tmp_path}")
    assert found.returncode == 2
    assert "has no profile; train.py --profile_steps=A:B writes one" in found.stderr
