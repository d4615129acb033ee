"""test_config.py has the configurations; this has the formats."""

import pytest

from aelab.config import FORMAT, Config, check_format, from_json
from aelab.errors import FormatError, UsageError


@pytest.mark.parametrize("number", [1, FORMAT])
def test_this_format_and_earlier_ones_are_read(number):
    check_format(number, "config.json")


def test_a_later_format_is_refused_with_both_numbers():
    with pytest.raises(FormatError, match=f"format {FORMAT + 1}, .* up to {FORMAT}:"):
        check_format(FORMAT + 1, "config.json")


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
def test_something_else_is_not_a_format(value):
    with pytest.raises(UsageError, match=r"config\.json has format"):
        check_format(value, "config.json")


def test_a_field_that_a_file_does_not_name_has_its_earlier_value():
    assert from_json('{"model": "dense"}', "config.json").shuffle_version == 1
    assert Config().shuffle_version == 2
