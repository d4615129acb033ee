import profile_table
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.errors import UsageError
from aelab.summaries.profile import Profile
from aelab.training.run import train_and_evaluate


def config(**fields):
    """Ten steps of a small model."""
    return Config(
        model="dense",
        batch_size=20,
        train_examples=200,
        eval_examples=20,
        epochs=1,
        steps_per_loop=4,
        **fields,
    )


def profiles(folder):
    return list(folder.rglob("plugins/profile/*/*.xplane.pb"))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """The directory of a run with a profile that begins in the last steps."""
    run_dir = tmp_path_factory.mktemp("profiled") / "run"
    train_and_evaluate(config(profile_steps="8:1000"), str(run_dir))
    return run_dir


def test_a_run_writes_a_profile_of_the_given_steps(tmp_path):
    expected = train_and_evaluate(config(), str(tmp_path / "plain"))
    profiled = train_and_evaluate(config(profile_steps="3:5"), str(tmp_path / "run"))
    assert profiled == expected
    assert profiles(tmp_path / "run" / "tensorboard")
    assert not profiles(tmp_path / "plain")


def test_a_profile_that_begins_in_the_last_steps_is_written(run_dir):
    assert profiles(run_dir)


def test_a_profile_that_cannot_be_taken_gives_a_warning(tmp_path, capsys):
    tf.profiler.experimental.start(str(tmp_path / "other"))
    try:
        with Profile(str(tmp_path / "mine")) as profile:
            profile.run(True)
            profile.run(True)
    finally:
        tf.profiler.experimental.stop()
    assert capsys.readouterr().err.count("no profile could be written") == 1
    assert not profiles(tmp_path / "mine")


def test_a_worker_without_files_takes_no_profile(tmp_path):
    with Profile("") as profile:
        profile.run(True)
        # Only one profile can be taken at a time.
        tf.profiler.experimental.start(str(tmp_path))
        tf.profiler.experimental.stop()
    assert len(profiles(tmp_path)) == 1


@pytest.mark.parametrize(
    "text",
    ["3", "5:3", "3:3", "a:b", "-1:3", "1:2:3", ":", "1:", "1:" + "9" * 5000],
)
def test_steps_that_are_not_a_pair_are_refused(text):
    with pytest.raises(UsageError, match=r"--profile_steps must be two steps.*100:120"):
        Config(profile_steps=text)


def test_the_table_adds_up_the_operations_of_the_profile(run_dir, capsys):
    """Two of the ten steps are in it; nothing counts that is beyond the end."""
    profile_table.main(["profile_table.py", f"--run_dir={run_dir}"])
    table = capsys.readouterr().out
    head, _, *rows = [line.split("|") for line in table.splitlines()]
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


def test_a_run_without_a_profile_is_answered_with_the_flag_that_writes_one(tmp_path):
    message = "has no profile; train.py --profile_steps=A:B writes one"
    with pytest.raises(UsageError, match=message):
        profile_table.main(["profile_table.py", f"--run_dir={tmp_path}"])
