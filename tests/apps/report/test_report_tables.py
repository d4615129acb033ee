from hypothesis import given
from reports import JSON

from aelab.apps.report.tables import differences, table_of


@given(JSON)
def test_any_json_value_becomes_a_table(value):
    table = table_of(value)
    assert table.columns
    assert all(len(row) == len(table.columns) for row in table.rows)
    for row in table.rows:
        assert not any(isinstance(cell, dict | list) for cell in row)


def test_rows_beyond_200_are_counted():
    table = table_of([{"image": number} for number in range(1000)])
    assert table.rows[:2] == [[0], [1]]
    assert len(table.rows) == 201 and table.rows[-1] == ["and 800 more rows"]


def test_one_configuration_has_no_differences():
    assert differences(["a"], [{"seed": 1}]).rows == []
