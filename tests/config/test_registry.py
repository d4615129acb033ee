import inspect

import pytest

from aelab.config import FIELDS, Config, registry
from aelab.errors import UsageError
from aelab.metric_info import METRICS

TABLES = {
    "MODELS": ["config", "image_shape"],
    "CORRUPTIONS": ["images", "key", "config"],
    "AUGMENTATIONS": ["images", "key", "config"],
    "LOSSES": ["clean", "output", "config"],
    "PENALTIES": ["result", "config"],
    "PANELS": ["sample"],
}


@pytest.mark.parametrize("table", TABLES)
def test_every_name_is_a_function_with_the_arguments_of_its_table(table):
    for name, target in getattr(registry, table).items():
        function = registry.load(target, name)
        assert list(inspect.signature(function).parameters) == TABLES[table], name


def test_every_source_is_a_function():
    for name, entry in registry.SOURCES.items():
        function = registry.load(entry.function, name)
        assert list(inspect.signature(function).parameters) == ["config", "split"]


def test_every_metric_function_exists():
    for name, row in METRICS.items():
        if row.function:
            parameters = inspect.signature(registry.load(row.function, name)).parameters
            assert list(parameters) == ["clean", "output"]


def test_every_penalty_is_named_after_the_field_of_its_weight():
    for name in registry.PENALTIES:
        assert getattr(Config(), name) == 0
        assert FIELDS[name].metadata["minimum"] == 0


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nonesuch:f", "there is no module nonesuch"),
        ("aelab.nonesuch:f", "there is no module aelab.nonesuch"),
        ("aelab.errors:nonesuch", "aelab.errors has no nonesuch"),
        ("aelab.config.registry:MODELS", "MODELS in .* is not a function"),
    ],
)
def test_a_target_that_does_not_exist_is_refused(target, words):
    with pytest.raises(UsageError, match=f"--model={target}: .*{words}"):
        registry.load(target, f"--model={target}")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import nonesuch_library", ModuleNotFoundError),
        ("import math; math.nonesuch_function()", AttributeError),
    ],
)
def test_an_import_that_fails_inside_of_a_module_is_not_hidden(
    code, error, tmp_path, monkeypatch
):
    (tmp_path / f"broken_{error.__name__}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error, match="nonesuch"):
        registry.load(f"broken_{error.__name__}:build", "--model=")
