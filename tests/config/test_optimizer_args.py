import pytest

from aelab.config import Config
from aelab.errors import UsageError


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        ("momentum=0.9", {"momentum": 0.9}),
        ("epsilon=1e-6,nesterov=true", {"epsilon": 1e-6, "nesterov": True}),
        ("n=3,m=-3,centered=False", {"n": 3, "m": -3, "centered": False}),
    ],
)
def test_optimizer_arguments(text, arguments):
    found = Config(optimizer_args=text).optimizer_arguments()
    assert found == arguments
    assert [*map(type, found.values())] == [*map(type, arguments.values())]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(("beta_1", "not 'beta_1'"), ("=1", "not '=1'"), ("a b=1", "not 'a b=1'")),
        *(("a=x", "not 'a=x'"), ("a=nan", "not 'a=nan'"), ("a=1e999", "not 'a=1e999'")),
        *(("a=1,a=2", "sets a twice"), ("a=1,,b=2", "not ''"), ("a=1,", "not ''")),
        ("learning_rate=1", "use --learning_rate"),
        ("clipnorm=1", "use --gradient_clip_norm"),
        ("use_ema=true", "use --weight_average"),
    ],
)
def test_bad_optimizer_arguments_are_refused(text, words):
    with pytest.raises(UsageError, match="--optimizer_args") as caught:
        Config(optimizer_args=text)
    assert words in str(caught.value)


def test_an_optimizer_argument_with_a_flag_of_its_own():
    assert Config(optimizer_args="weight_decay=0.1")
    with pytest.raises(UsageError, match="use --weight_decay"):
        Config(optimizer="adamw", optimizer_args="weight_decay=0.1")
