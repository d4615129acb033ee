"""Fields of a made-up dataclass; test_config.py tries those of `Config`."""

import dataclasses

import pytest

from aelab.config import fields
from aelab.errors import UsageError


@dataclasses.dataclass
class Oven:
    heat: float = fields.field(0.5, "How hot.", above=0, maximum=1)
    plates: int = fields.field(1, "How many.", minimum=1)
    mode: str = fields.field("fan", "How.", choices=("fan", "grill"), is_list=True)


HEAT, PLATES, MODE = dataclasses.fields(Oven)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        *((HEAT, "1", 1.0), (HEAT, "1e-3", 0.001), (PLATES, "7", 7)),
        *((MODE, "grill", "grill"), (MODE, "grill,fan", "grill,fan")),
    ],
)
def test_a_text_becomes_a_value_of_the_fields_type(field, text, value):
    parsed = fields.parse(field, text)
    assert (parsed, type(parsed)) == (value, fields.type_of(field))


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        (HEAT, "hot", "--heat must be a number, not 'hot'"),
        (HEAT, "0", "--heat must be above 0, not 0.0"),
        (HEAT, "1.5", "--heat must be at most 1, not 1.5"),
        (HEAT, "nan", "--heat must be a finite number, not nan"),
        (PLATES, "1.5", "--plates must be an integer, not '1.5'"),
        (PLATES, "0", "--plates must be at least 1, not 0"),
        (MODE, "steam", "--mode must be one of fan, grill, or several joined by"),
    ],
)
def test_what_is_wrong_is_said(field, text, words):
    with pytest.raises(UsageError) as error:
        fields.parse(field, text)
    assert words in str(error.value)


def test_a_value_of_another_type_is_refused():
    fields.check(HEAT, 1)  # an integer is a number
    for field, value in ((HEAT, "1"), (PLATES, 1.0), (PLATES, True), (MODE, 1)):
        with pytest.raises(UsageError, match=repr(value)):
            fields.check(field, value)
