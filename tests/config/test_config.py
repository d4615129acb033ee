import copy
import dataclasses
import json
import math
import subprocess
import sys

import pytest

from aelab.config import (
    FIELDS,
    Config,
    differences,
    field_type,
    from_json,
    parse_field,
    to_text,
)
from aelab.errors import UsageError

NUMBERS = [name for name in FIELDS if field_type(name) in (int, float)]
BOOLEANS = [name for name in FIELDS if field_type(name) is bool]
FLOATS = [name for name in FIELDS if field_type(name) is float]
INTEGERS = [name for name in FIELDS if field_type(name) is int]
TEXTS = [name for name in FIELDS if field_type(name) is str]
CHOICES = [name for name in TEXTS if FIELDS[name].metadata["choices"]]

# Everything away from its default that can be at the same time.
FULL = Config(
    dataset="idx",
    data_dir="/data/set one",
    model="dense",
    encoding_dim=3,
    learning_rate=1e-7,
    noise_stddev=0.1 + 0.2,
    learning_rate_schedule="cosine",
)


def users(name):
    """Choices with which a field may have another value than its default."""
    owners = FIELDS[name].metadata["only_with"]
    choices = {owner: values[0] for owner, values in owners.items()}
    needs_folder = choices.get("dataset") == "images"
    return choices | ({"data_dir": "pictures"} if needs_folder else {})


def limited(limit):
    return [name for name in NUMBERS if FIELDS[name].metadata[limit] is not None]


def refusal(name, value):
    """The message with which `Config` refuses the value of one field."""
    with pytest.raises(UsageError) as caught:
        Config(**{name: value})
    assert str(caught.value).startswith(f"--{name} must be ")
    return str(caught.value)


def with_other(config, name):
    """A copy that differs in one field, allowed or not."""
    other = copy.copy(config)
    value = getattr(config, name)
    new = f"{value}x" if isinstance(value, str) else type(value)(value + 1)
    new = not value if isinstance(value, bool) else new
    object.__setattr__(other, name, new)
    return other


def as_json(config, **changes):
    return json.dumps(dataclasses.asdict(config) | changes)


def test_defaults_are_valid_one_by_one():
    config = Config()
    for name in FIELDS:
        value = getattr(config, name)
        parsed = parse_field(name, str(value))
        assert (parsed, type(parsed)) == (value, type(value)), name


def test_every_field_has_help():
    assert all(field.metadata["help"].endswith(".") for field in FIELDS.values())


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_of_another_type_is_refused_by_each_field(name):
    others = [None, 1 if name in BOOLEANS else True, []]
    others += [1] if name in TEXTS else ["1"]
    for value in others + ([1.0] if name in INTEGERS else []):
        assert repr(value) in refusal(name, value)


@pytest.mark.parametrize("name", FLOATS)
def test_an_integer_is_accepted_for_a_float(name):
    value = int(min(1, FIELDS[name].metadata["maximum"] or 1))  # 0 if 1 is too high
    config = Config(**users(name), **{name: value})
    assert getattr(config, name) == value


@pytest.mark.parametrize("name", limited("minimum"))
def test_a_number_below_the_minimum_is_refused(name):
    minimum = FIELDS[name].metadata["minimum"]
    below = minimum - 1 if name in INTEGERS else math.nextafter(minimum, -math.inf)
    assert parse_field(name, str(minimum)) == minimum
    assert f"at least {minimum}" in refusal(name, below)


@pytest.mark.parametrize("name", limited("above"))
def test_a_number_at_an_exclusive_limit_is_refused(name):
    limit = FIELDS[name].metadata["above"]
    assert parse_field(name, repr(math.nextafter(limit, math.inf))) > limit
    for value in (float(limit), limit - 1.0):
        assert f"above {limit}" in refusal(name, value)


@pytest.mark.parametrize("name", limited("maximum"))
def test_a_number_above_the_maximum_is_refused(name):
    maximum = FIELDS[name].metadata["maximum"]
    assert parse_field(name, str(maximum)) == maximum
    assert f"at most {maximum}" in refusal(name, maximum + 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", FLOATS)
def test_a_number_that_is_not_finite_is_refused(name, value):
    assert "finite" in refusal(name, value)


@pytest.mark.parametrize("name", NUMBERS)
def test_an_integer_too_large_for_a_float_is_refused(name):
    assert name in refusal(name, 10**400)


@pytest.mark.parametrize("value", [0, 2, 4, -1])
def test_another_number_of_channels_is_refused(value):
    assert f"one of 1, 3; not {value}" in refusal("image_channels", value)


def test_more_steps_than_tensorflow_can_count_are_refused():
    assert "train_steps" in refusal("train_steps", 2**63)


@pytest.mark.parametrize("name", CHOICES)
def test_an_unknown_name_lists_the_known_ones(name):
    message = refusal(name, "nonesuch")
    assert "nonesuch" in message
    assert all(choice in message for choice in FIELDS[name].metadata["choices"])


@pytest.mark.parametrize(
    "text",
    ["", ",", "gaussian,", "jpeg,,masking", "jpeg, masking", "jpeg,blur", " jpeg"],
)
def test_every_name_of_a_list_must_be_known(text):
    message = refusal("corruption", text)
    assert repr(text) in message and "joined by commas" in message
    assert all(name in message for name in FIELDS["corruption"].metadata["choices"])


@pytest.mark.parametrize("names", [["masking"], ["jpeg", "masking", "jpeg"]])
def test_a_list_of_corruptions(names):
    assert Config(corruption=",".join(names)).corruptions() == tuple(names)
    assert parse_field("corruption", ",".join(names)) == ",".join(names)


def test_every_user_of_a_field_is_a_choice():
    for name, field in FIELDS.items():
        for owner, values in field.metadata["only_with"].items():
            assert set(values) <= set(FIELDS[owner].metadata["choices"]), name


@pytest.mark.parametrize(
    "name", [n for n in FIELDS if "corruption" in FIELDS[n].metadata["only_with"]]
)
def test_a_level_of_an_unused_corruption_is_refused(name):
    """The default may be given, for example by the flagfile of a run."""
    field = FIELDS[name]
    (user,) = field.metadata["only_with"]["corruption"]
    other = "jpeg" if user != "jpeg" else "masking"
    assert Config(corruption=other, **{name: field.default})
    value = min(1 if field.default != 1 else 2, field.metadata["maximum"] or 2)
    if name == "jpeg_quality_max":
        value = Config.jpeg_quality
    if isinstance(field.default, bool):
        value = not field.default
    Config(**({"corruption": user, name: value} | noisy(user)))
    Config(corruption=f"masking,{user},masking", **({name: value} | noisy(user)))
    with pytest.raises(UsageError) as caught:
        Config(corruption=other, **{name: value})
    for word in (f"--{name}={value}".lower(), f"--corruption={other}", user):
        assert word in str(caught.value)


def noisy(user):
    """A level, where corruptions in a list need one."""
    return {"noise_stddev": 1.0} if user == "gaussian" else {}


@pytest.mark.parametrize("text", ["/a\n--epochs=3", "/a\r--epochs=3", " /a", "/a "])
def test_text_that_a_flagfile_cannot_hold_is_refused(text):
    with pytest.raises(UsageError, match=r"^--data_dir must be"):
        Config(dataset="idx", data_dir=text)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"dataset": "idx"}, ["--dataset=idx", "--data_dir"]),
        ({"dataset": "images"}, ["--dataset=images", "--data_dir"]),
        ({"data_dir": "/d"}, ["--data_dir=/d", "--dataset=synthetic"]),
        ({"image_size": 32}, ["--image_size=32", "--dataset=synthetic", "=images"]),
        ({"image_channels": 1}, ["--image_channels=1", "--dataset=synthetic"]),
        (
            {"max_bad_files": 2, "dataset": "idx", "data_dir": "/d"},
            ["--max_bad_files=2", "--dataset=idx", "--dataset=images"],
        ),
        (
            {"dataset": "fashion_mnist", "data_dir": "/d"},
            ["--data_dir=/d", "--dataset=fashion_mnist"],
        ),
        ({"encoding_dim": 16}, ["--encoding_dim=16", "--model=conv"]),
        ({"code_activation": "linear"}, ["--code_activation=linear", "--model=conv"]),
        ({"devices": "GPU:1"}, ["--devices=GPU:1", "--strategy=single", "mirrored"]),
        (
            {"devices": "GPU:1", "strategy": "multi_worker"},
            ["--devices=GPU:1", "--strategy=multi_worker"],
        ),
        (
            {"virtual_cpus": 2, "strategy": "multi_worker"},
            ["--virtual_cpus=2", "--strategy=multi_worker"],
        ),
        (
            {"noise_stddev": 0.5, "noise_stddev_max": 0.25},
            ["--noise_stddev_max=0.25", "--noise_stddev=0.5"],
        ),
        (
            {"corruption": "jpeg", "jpeg_quality": 50, "jpeg_quality_max": 49},
            ["--jpeg_quality_max=49", "--jpeg_quality=50"],
        ),
        (
            {"corruption": "gaussian,jpeg"},
            ["--corruption=gaussian,jpeg", "--noise_stddev", "--noise_stddev_max"],
        ),
    ],
)
def test_contradictions_are_refused(values, names):
    with pytest.raises(UsageError) as caught:
        Config(**values)
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("config", [Config(), FULL])
def test_json_round_trip(config):
    text = as_json(config, versions={"python": "3.11"}, data=None)
    assert from_json(text, "config.json") == config


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not JSON"),
        (as_json(FULL)[:-1], "not JSON"),
        ("[]", "JSON object"),
        ("null", "JSON object"),
        ("{}", "is not the configuration of a run"),
        (as_json(FULL, format=3), "has format 3, .* reads formats up to 2"),
        (as_json(FULL, format="2"), "has format '2'"),
        (as_json(FULL, format=True), "has format True"),
        (as_json(FULL, dropout=0.1, alpha=1), "does not know: alpha, dropout$"),
        (as_json(FULL, mirror="yes"), "--mirror must be true or false, not 'yes'"),
        (as_json(FULL, epochs="3"), "--epochs must be an integer"),
        (as_json(FULL, epochs=3.0), "--epochs must be an integer"),
        (as_json(FULL, noise_stddev=math.nan), "--noise_stddev must be a finite"),
        (as_json(FULL, learning_rate=10**400), "--learning_rate must be"),
        (as_json(FULL, model="vast"), "--model must be one of .*dense"),
        (as_json(FULL, model="conv"), "--encoding_dim=3 contradicts"),
    ],
)
def test_json_errors_name_the_file(text, match):
    with pytest.raises(UsageError, match=match) as caught:
        from_json(text, "run/config.json")
    assert str(caught.value).startswith("run/config.json")


def test_a_missing_field_has_its_default():
    """The value that it meant before it existed."""
    values = dataclasses.asdict(FULL)
    del values["optimizer_args"], values["max_shift"]
    assert from_json(json.dumps(values), "config.json") == FULL


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False)])
def test_booleans_of_format_1_are_texts(text, value):
    config = from_json(as_json(FULL, mirror=text, stock_layers=text), "config.json")
    assert (config.mirror, config.stock_layers) == (value, value)


def test_a_model_of_ones_own_may_use_every_parameter_of_models():
    config = Config(model="my.module:build", encoding_dim=3, code_activation="linear")
    assert parse_field("model", config.model) == "my.module:build"
    for bad in ("my module:build", "module:", ":build", "a:b:c", "a/b:c", "module"):
        with pytest.raises(UsageError, match="--model must be one of"):
            Config(model=bad)


@pytest.mark.parametrize("name", FIELDS)
def test_differences_list_the_fields_that_change_the_numbers(name):
    other = with_other(FULL, name)
    values = (to_text(getattr(config, name)) for config in (FULL, other))
    line = f"--{name}: {' -> '.join(values)}"
    fixed = FIELDS[name].metadata["changes_numbers"]
    assert differences(FULL, other) == ([line] if fixed else [])


@pytest.mark.parametrize("name", ["epochs", "train_steps"])
def test_a_constant_learning_rate_allows_a_longer_run(name):
    constant = dataclasses.replace(FULL, learning_rate_schedule="constant")
    assert differences(constant, with_other(constant, name)) == []


def test_differences_are_all_listed():
    old, new = Config(), Config(model="dense", encoding_dim=8, seed=3, epochs=99)
    assert differences(old, new) == [
        "--model: conv -> dense",
        "--encoding_dim: 32 -> 8",
        "--seed: 0 -> 3",
    ]
    assert differences(new, new) == []


def test_config_imports_only_the_standard_library():
    code = (
        "import sys; before = set(sys.modules); import aelab.config; "
        "print(*set(sys.modules) - before)"
    )
    command = [sys.executable, "-c", code]
    names = subprocess.check_output(command, text=True, timeout=60).split()
    ours = {name for name in names if name.split(".")[0] == "aelab"}
    assert ours == {
        *("aelab", "aelab.errors", "aelab.metric_info"),
        *("aelab.config", "aelab.config.config", "aelab.config.contradictions"),
        *("aelab.config.fields", "aelab.config.optimizer_args"),
        *("aelab.config.registry", "aelab.config.saved"),
    }
    others = {name.split(".")[0] for name in names} - {"aelab"}
    assert others <= set(sys.stdlib_module_names)
