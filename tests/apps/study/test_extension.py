import pytest
from test_description import describe

from aelab.apps.study.extension import extend
from aelab.errors import UsageError


@pytest.mark.parametrize(
    "new",
    [
        describe("loss=bce,mse", seeds=2),
        describe("loss=bce,mse", seeds=5),
        describe("loss=mse,log_mse,bce", seeds=2),
        describe("loss=bce,mse", seeds=2, epochs=20, log_every_steps=3),
    ],
)
def test_a_study_may_grow(new):
    assert extend(describe("loss=bce,mse", seeds=2), new, "study") == new


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (describe("loss=bce", seeds=2), ["the variant loss=mse is gone"]),
        (describe("loss=bce,mse", seeds=1), ["--seeds: 2 -> 1"]),
        (
            describe("loss=bce,mse", seeds=2, batch_size=64, mirror=True),
            [
                f"loss={loss}: {line}"
                for loss in ("bce", "mse")
                for line in ("--mirror: false -> true", "--batch_size: 128 -> 64")
            ],
        ),
    ],
)
def test_another_study_is_refused_with_all_differences(new, lines):
    with pytest.raises(UsageError) as caught:
        extend(describe("loss=bce,mse", seeds=2), new, "study")
    message = str(caught.value)
    assert message.startswith("--study_dir=study holds another study")
    assert message.split("\n  ")[1:] == lines


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ({"epochs": 20}, {"epochs": 10}, "--epochs: 20 -> 10"),
        (
            {"epochs": 20, "learning_rate_schedule": "cosine"},
            {"epochs": 10, "learning_rate_schedule": "cosine"},
            "--epochs: 20 -> 10",
        ),
        ({"train_steps": 9}, {"train_steps": 8}, "--train_steps: 9 -> 8"),
        ({"train_steps": 9}, {}, "--train_steps: 9 -> 0"),
        ({}, {"train_steps": 9}, "--train_steps: 0 -> 9"),
    ],
)
def test_runs_of_another_length_are_refused_unless_they_are_longer(old, new, line):
    with pytest.raises(UsageError) as caught:
        extend(describe(**old), describe(**new), "study")
    assert str(caught.value).split("\n  ")[1:] == [f"only: {line}"]
    extend(describe(train_steps=8), describe(train_steps=9), "study")
