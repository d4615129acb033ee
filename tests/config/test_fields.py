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

    light: bool = fields.field(False, "Whether to look inside.")
    timer: int = fields.field(0, "Minutes.", maximum=600, new_maximum=60, hint="wait")
    cook: str = fields.field("me", "Who.", choices=("me",), takes_function=True)


HEAT, PLATES, MODE, LIGHT, TIMER, COOK = dataclasses.fields(Oven)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        *(
            (HEAT, "1", 1.0),
            (HEAT, "1e-3", 0.001),
            (HEAT, "2.5/5", 0.5),
            (PLATES, "7", 7),
        ),
        *((MODE, "grill", "grill"), (MODE, "grill,fan", "grill,fan")),
        *((LIGHT, "true", True), (LIGHT, "False", False), (LIGHT, "1", True)),
        *((COOK, "me", "me"), (COOK, "a.b:c", "a.b:c")),
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
        *((HEAT, text, "a number, not") for text in ("1/0", "1/", "/2", "1/2/3")),
        (PLATES, "1.5", "--plates must be an integer, not '1.5'"),
        (PLATES, "0", "--plates must be at least 1, not 0"),
        (MODE, "steam", "--mode must be one of fan, grill, or several joined by"),
        (LIGHT, "yes", "--light must be true or false, not 'yes'"),
        (COOK, "you", "--cook must be one of me, or MODULE:FUNCTION; not 'you'"),
    ],
)
def test_the_message_names_the_field_and_the_limit(field, text, words):
    with pytest.raises(UsageError) as error:
        fields.parse(field, text)
    assert words in str(error.value)


def test_a_value_of_another_type_is_refused():
    fields.check(HEAT, 1)  # an integer is a number
    bad = (
        (HEAT, "1"),
        (PLATES, 1.0),
        (PLATES, True),
        (MODE, 1),
        (LIGHT, 1),
        (LIGHT, "t"),
    )
    for field, value in bad:
        with pytest.raises(UsageError, match=repr(value)):
            fields.check(field, value)


def test_a_limit_for_new_runs_holds_on_command_lines_only():
    fields.check(TIMER, 600)
    with pytest.raises(UsageError, match="at most 600"):
        fields.check(TIMER, 601)
    fields.check_new(TIMER, 60)
    with pytest.raises(UsageError, match=r"^--timer must be at most 60, not 61: wait$"):
        fields.check_new(TIMER, 61)


@pytest.mark.parametrize(
    ("field", "value"), [(LIGHT, True), (LIGHT, False), (HEAT, 0.1), (MODE, "fan")]
)
def test_the_text_of_a_value_is_read_back(field, value):
    assert fields.parse(field, fields.to_text(value)) == value
