"""Tables as HTML, with everything escaped."""

from html import escape
from typing import Any

from aelab.apps.report.tables import NAME, Table


def table_html(table: Table, exact: bool = False) -> str:
    """A table in a box of its own, which scrolls where the page is narrow.

    Args:
      table: the first column is the rows' names.
      exact: whether to show numbers to their last digit.
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
    """A value as HTML: four digits of a figure, two decimals of decibels."""
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
