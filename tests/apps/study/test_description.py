import json

import pytest

from aelab.apps.study.description import (
    STUDY_JSON,
    Description,
    make_description,
    read_description,
)
from aelab.apps.study.variants import parse_variants
from aelab.config import FIELDS, Config
from aelab.errors import FormatError, UsageError


def describe(*vary, seeds=1, **given):
    return make_description(given, parse_variants(vary), seeds)


def write(folder, description, **changes):
    content = {"format": 2, "description": description.to_json()} | changes
    (folder / STUDY_JSON).write_text(json.dumps(content))


def test_each_variant_has_a_run_for_each_seed():
    description = describe("loss=bce,mse", seeds=2, model="dense")
    trials = list(description.trials("study"))
    assert [(t.variant, t.seed) for t in trials] == [
        *(("loss=bce", 0), ("loss=mse", 0)),
        *(("loss=bce", 1), ("loss=mse", 1)),
    ]
    assert trials[3].config == Config(model="dense", loss="mse", seed=1)
    assert trials[3].run_dir == "study/runs/loss=mse/seed-1"


def test_a_variant_may_need_a_value_that_the_others_refuse():
    description = describe("rate_weight=0,0.1", model="codec")
    assert len(list(description.trials("study"))) == 2
    with pytest.raises(UsageError, match=r"variant rate_weight=0\.1: --rate_weight"):
        describe("rate_weight=0,0.1", model="conv")


def test_variants_that_are_the_same_runs_are_refused(tmp_path):
    path = tmp_path / "variants.txt"
    path.write_text("plain:\nbce: --loss=bce\n")
    with pytest.raises(UsageError, match="plain and bce train the same runs"):
        describe(f"@{path}")
    assert len(describe("epochs=1,2").variants) == 2
    with pytest.raises(UsageError, match="epochs=1 and epochs=2 train the same runs"):
        describe("epochs=1,2", train_steps=10)


def test_a_study_sets_the_seed_itself():
    with pytest.raises(UsageError, match="--seeds=N"):
        describe(seed=3)


def test_a_description_is_read_as_it_was_written(tmp_path):
    description = describe("loss=bce,mse", seeds=3, model="dense", noise_stddev=0.25)
    write(tmp_path, description)
    assert read_description(str(tmp_path)) == description
    assert read_description(str(tmp_path / "other")) is None


def test_a_field_that_is_not_named_has_its_earlier_value(tmp_path):
    description = describe("loss=bce,mse")
    config = dict(description.config)
    del config["shuffle_version"]
    write(tmp_path, Description(config, description.variants, 1))
    found = read_description(str(tmp_path))
    earlier = FIELDS["shuffle_version"].metadata["earlier"]
    assert found.config == description.config | {"shuffle_version": earlier}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"description": {}}', '{"description": 3}', "\0"]
)
def test_a_bad_file_is_refused(tmp_path, text):
    (tmp_path / STUDY_JSON).write_text(text)
    with pytest.raises(UsageError, match=STUDY_JSON):
        read_description(str(tmp_path))


@pytest.mark.parametrize("name", ["../x", "", ".", "a/b", "loss=mse"])
def test_a_name_that_is_not_a_folder_of_its_own_is_refused(tmp_path, name):
    write(tmp_path, describe("loss=bce,mse"))
    text = (tmp_path / STUDY_JSON).read_text()
    (tmp_path / STUDY_JSON).write_text(text.replace("loss=bce", name))
    with pytest.raises(UsageError, match="distinct and safe"):
        read_description(str(tmp_path))


def test_a_later_format_and_an_unknown_field_are_refused(tmp_path):
    description = describe()
    write(tmp_path, description, format=99)
    with pytest.raises(FormatError, match="format 99"):
        read_description(str(tmp_path))
    write(
        tmp_path, Description({**description.config, "x": 1}, description.variants, 1)
    )
    with pytest.raises(UsageError, match="does not know: x"):
        read_description(str(tmp_path))
