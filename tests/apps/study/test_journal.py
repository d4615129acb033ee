"""Optuna's journal of a search."""

import pytest

from aelab.apps.study.journal import JOURNAL_LOG, Journal, read_trials
from aelab.apps.study.ranges import TPE, parse_search
from aelab.errors import UsageError

optuna = pytest.importorskip("optuna")

GIVEN = ["learning_rate=log:1e-4..1", "encoding_dim=8..64", "batch_size=32,64"]


def search(trials):
    return parse_search(TPE, GIVEN, trials)


def journal(folder, trials=20):
    return Journal(str(folder), search(trials), "psnr")


def value(variant):
    return variant.flags["encoding_dim"] + variant.flags["batch_size"]


def run(folder, count, opened_every):
    """The variants of a search that is closed and opened after so many trials."""
    found = []
    for number in range(count):
        if number % opened_every == 0:
            opened = journal(folder)
        found.append(opened.ask())
        opened.end(number, value(found[-1]))
    return found


def test_it_asks_for_no_more_than_all_trials(tmp_path):
    opened = journal(tmp_path, trials=2)
    first, second = opened.ask(), opened.ask()
    assert [first.name, second.name] == ["trial-000", "trial-001"]
    assert first.flags.keys() == search(2).ranges.keys()
    assert opened.ask() is None
    assert journal(tmp_path, trials=2).ask() is None
    assert journal(tmp_path, trials=3).ask().name == "trial-002"


@pytest.mark.parametrize("line", [b"{\n", b"\xff\n"])
def test_a_damaged_journal_is_named(tmp_path, line):
    journal(tmp_path).ask()
    path = tmp_path / JOURNAL_LOG
    path.write_bytes(path.read_bytes() + line + b'{"op_code": 0}\n')
    for read in (journal, lambda folder: read_trials(str(folder), search(2))):
        with pytest.raises(UsageError, match=r"journal\.log is damaged"):
            read(tmp_path)


def test_the_values_do_not_depend_on_a_kill(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert run(tmp_path / "a", 14, 100) == run(tmp_path / "b", 14, 3)


def test_open_trials_keep_their_numbers_and_values(tmp_path):
    opened = journal(tmp_path)
    variants = [opened.ask() for _ in range(3)]
    opened.end(1, 2.5)
    opened.end(2, None)
    again = journal(tmp_path)
    assert again.variants() == variants
    assert [again.is_open(number) for number in range(3)] == [True, False, False]
    states = [trial.state.name for trial in again._frozen()]
    assert states == ["RUNNING", "COMPLETE", "FAIL"]
    again.end(0, 1.5)
    assert [trial.value for trial in journal(tmp_path)._frozen()] == [1.5, 2.5, None]


def test_a_trial_without_all_its_values_gets_them(tmp_path):
    journal(tmp_path)._study.ask()
    assert read_trials(str(tmp_path), search(20)) == ([], set())
    again = journal(tmp_path)
    assert again.variants()[0].flags.keys() == search(20).ranges.keys()
    assert read_trials(str(tmp_path), search(20)) == (again.variants(), set())


def test_a_line_that_is_not_whole_is_dropped(tmp_path):
    variant = journal(tmp_path).ask()
    with open(tmp_path / JOURNAL_LOG, "ab") as file:
        file.write(b'{"op_code":4,"wor')
    assert journal(tmp_path).ask().name == "trial-001"
    assert journal(tmp_path).variants()[0] == variant


def test_the_median_rule_stops_a_trial(tmp_path):
    opened = journal(tmp_path)
    for number in range(5):
        opened.ask()
        opened.report(number, [10.0 + number, 20.0 + number])
        assert not opened.is_hopeless(number)
        opened.end(number, 20.0 + number)
    opened.ask()
    opened.report(5, [])
    assert not opened.is_hopeless(5)
    opened.report(5, [12.5])
    assert not opened.is_hopeless(5)
    opened.report(5, [12.5, float("nan")])
    assert not opened.is_hopeless(5)
    # Its process was killed; the evaluations come again.
    again = journal(tmp_path)
    again.report(5, [12.5, 15.0])
    assert again.is_hopeless(5)
    again.end(5, None, is_pruned=True)
    assert again.pruned() == {5} and not again.is_open(5)
    assert read_trials(str(tmp_path), search(20))[1] == {"trial-005"}


def test_a_lower_loss_is_better(tmp_path):
    opened = Journal(str(tmp_path), search(20), "loss")
    assert opened._study.direction.name == "MINIMIZE"
    (tmp_path / "up").mkdir()
    assert journal(tmp_path / "up")._study.direction.name == "MAXIMIZE"


def test_a_study_without_a_journal_has_no_trials(tmp_path):
    assert read_trials(str(tmp_path), search(20)) == ([], set())
    assert list(tmp_path.iterdir()) == []
