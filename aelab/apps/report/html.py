"""Tables as HTML, with all text escaped."""

from html import escape
from typing import Any

from aelab.apps.report.tables import NAME, Table


def table_html(table: Table, exact: bool = False) -> str:
    """A table in a box that scrolls where the page is narrow.

    Args:
      table: its first column has the names of the rows.
      exact: True to show all digits of numbers.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    body = ""
    for name, *values in table.rows:
        body += f'<tr><th scope="row">{cell_text(name, NAME, exact)}</th>'
        for column, value in zip(table.columns[1:], values, strict=True):
            kind = ' class="number"' if isinstance(value, int | float) else ""
            body += f"<td{kind}>{cell_text(value, column, exact)}</td>"
        body += "</tr>\n"
    return (
        f'<div class="wide" tabindex="0">\n<table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def cell_text(value: Any, column: str, exact: bool = False) -> str:
    """A value as HTML: two decimals for decibels, four digits for other numbers."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return str(value).lower()
    if exact or not isinstance(value, int | float):
        return escape(str(value))
    if isinstance(value, int):
        return f"{value:,}"
    if "psnr" in column.lower():
        return f"{value:.2f}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e12 else f"{value:.4g}"
