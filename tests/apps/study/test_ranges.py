"""The ranges of a search, and random values in them."""

import json
import math

import pytest

from aelab.apps.study.description import make_description, read_description
from aelab.apps.study.extension import extend
from aelab.apps.study.ranges import RANDOM, TPE, Range, check_is_grid, parse_search
from aelab.errors import UsageError

GIVEN = (
    "learning_rate=log:1e-4..1e-2",
    "noise_stddev=15/255..0.5",
    "encoding_dim=8..64",
    "batch_size=32,64,128",
)


def search(*given, trials=4, sampler=RANDOM):
    return parse_search(sampler, given or GIVEN, trials)


def test_ranges_are_read_and_written():
    found = search()
    assert found.ranges == {
        "learning_rate": Range((), 1e-4, 1e-2, True),
        "noise_stddev": Range((), 15 / 255, 0.5),
        "encoding_dim": Range((), 8, 64),
        "batch_size": Range((32, 64, 128)),
    }
    again = [f"{name}={each}" for name, each in found.to_json()["ranges"].items()]
    assert search(*again) == found


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("learning_rate=0.5..0.1", "the lower end comes first"),
        ("learning_rate=0.5..0.5", "the lower end comes first"),
        ("learning_rate=a..b", "--learning_rate must be a number"),
        ("learning_rate=0.1..", "--learning_rate must be a number"),
        ("learning_rate=0.1..0.2..0.3", "--learning_rate must be a number"),
        ("learning_rate=0.1..inf", "--learning_rate must be"),
        ("encoding_dim=8..64.5", "--encoding_dim must be an integer"),
        ("noise_stddev=log:0..0.5", "must begin above 0"),
        ("loss=0.1..0.5", "--loss has no range"),
        ("loss=log:1..2", "--loss has no range"),
        ("loss=bce,l7", "--loss must be one of"),
        ("lr=0.1..0.2", "there is no flag --lr"),
        ("seed=1..9", "a study sets --seed itself"),
        ("batch_size=32,32", "a value is given twice"),
        ("@file", "--sampler=random needs --vary"),
    ],
)
def test_a_range_that_is_none_is_refused(given, words):
    with pytest.raises(UsageError) as caught:
        search(given)
    assert words in str(caught.value)
    if not given.startswith("@"):
        assert f"--vary={given}" in str(caught.value)


def test_a_search_needs_ranges_and_ranges_need_a_search():
    with pytest.raises(UsageError, match="needs --vary"):
        parse_search(TPE, [], 3)
    with pytest.raises(UsageError, match="needs --sampler=random or tpe"):
        check_is_grid(["learning_rate=0.1..0.2"])
    check_is_grid(["data_dir=../a,../b", "loss=bce,mse", "@../file"])


def test_random_values_follow_from_the_number_of_the_trial():
    few, many = search(trials=3), search(*reversed(GIVEN), trials=200)
    variants = many.random_variants()
    assert variants[:3] == few.random_variants()
    assert [each.name for each in variants[:2]] == ["trial-000", "trial-001"]
    assert len({json.dumps(each.flags) for each in variants}) == 200


def test_random_values_fill_their_ranges():
    flags = [each.flags for each in search(trials=1000).random_variants()]
    rates = [math.log10(each["learning_rate"]) for each in flags]
    assert -4 <= min(rates) < -3.9 and -2.1 < max(rates) <= -2
    assert sum(rates) / 1000 == pytest.approx(-3, abs=0.05)
    levels = [each["noise_stddev"] for each in flags]
    assert 15 / 255 <= min(levels) < 0.07 and 0.49 < max(levels) <= 0.5
    assert {each["encoding_dim"] for each in flags} == set(range(8, 65))
    assert {each["batch_size"] for each in flags} == {32, 64, 128}


def test_integers_of_a_logarithmic_range_stay_in_it():
    each = search("encoding_dim=log:1..1000").ranges["encoding_dim"]
    assert [each.at(share) for share in (0, 0.5, 1 - 2**-53)] == [1, 31, 1000]


def test_numbers_have_four_digits_and_stay_in_the_range():
    each = Range((), 0.12354, 0.9)
    assert each.rounded(0.3333333) == 0.3333
    assert each.rounded(0.123541) == 0.12354


def describe(*given, trials=4, sampler=RANDOM, seeds=1, **config):
    found = search(*given, trials=trials, sampler=sampler)
    return make_description({"model": "dense"} | config, [], seeds, found)


def test_all_corners_of_the_ranges_are_checked():
    with pytest.raises(UsageError, match=r"noise_stddev=0\.1.*: --"):
        describe("noise_stddev=0.1..0.2", corruption="none", sampler=TPE)
    given = ["model=dense,conv", "epochs=2..9", "rate_weight=0,1"]
    with pytest.raises(UsageError, match=r"model=dense,rate_weight=1\.0: --"):
        describe(*given, sampler=TPE)


def test_many_choices_are_no_more_work_than_their_pairs():
    names = ("epochs", "batch_size", "warmup_steps", "steps_per_loop")
    values = ",".join(map(str, range(1, 11)))
    given = [f"{name}={values}" for name in names]
    assert len(list(search(*given, trials=1, sampler=TPE).corners())) == 1 + 6 * 100
    assert len(list(search(given[0], trials=1, sampler=TPE).corners())) == 1 + 10


@pytest.mark.parametrize("sampler", [RANDOM, TPE])
def test_a_search_may_get_more_trials_and_nothing_else(sampler, tmp_path):
    old = describe(sampler=sampler, seeds=2)
    content = {"format": 2, "description": old.to_json()}
    (tmp_path / "study.json").write_text(json.dumps(content))
    old = read_description(str(tmp_path))
    assert old == describe(sampler=sampler, seeds=2)
    longer = {"epochs": 60}  # TPE would compare short trials with longer ones
    more = describe(
        sampler=sampler, seeds=3, trials=6, **({} if sampler == TPE else longer)
    )
    assert extend(old, more, "x") == more
    others = {
        "--trials: 4 -> 3": describe(sampler=sampler, seeds=2, trials=3),
        "--vary: encoding_dim=8..64 -> 8..65": describe(
            *GIVEN[:2], "encoding_dim=8..65", GIVEN[3], sampler=sampler, seeds=2
        ),
        "--vary: batch_size=32,64,128 -> \n": describe(
            *GIVEN[:3], sampler=sampler, seeds=2
        ),
        "--seeds: 2 -> 1": describe(sampler=sampler),
        "--loss: bce -> mse": describe(sampler=sampler, seeds=2, loss="mse"),
        f"--sampler: {sampler} -> grid": make_description(old.config, old.variants, 2),
    }
    if sampler == TPE:
        others["--epochs: 10 -> 60"] = describe(sampler=sampler, seeds=2, **longer)
    for words, other in others.items():
        with pytest.raises(UsageError) as caught:
            extend(old, other, "x")
        assert words in f"{caught.value}\n"


def test_a_bad_search_in_a_file_is_refused(tmp_path):
    for key, value in (("ranges", {"learning_rate": "9..1"}), ("sampler", "grid")):
        content = describe().to_json()
        content["search"][key] = value
        (tmp_path / "study.json").write_text(json.dumps({"description": content}))
        with pytest.raises(UsageError, match=r"study\.json describes no search"):
            read_description(str(tmp_path))
