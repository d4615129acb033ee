"""The table of a study as Markdown, CSV and LaTeX."""

import csv
import io
import math
import re
import textwrap
from collections.abc import Sequence

from aelab.apps.study.table import Table

_WIDTH = 88
# Markup in a cell, but not the underscores within a word.
_MARKDOWN = re.compile(r"[\\`*<>&\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_NEGATIVE = re.compile(r"(?<![\w-])-(?=\d)")
_LATEX_WIDTH = 20  # characters; longer texts are wrapped
_LATEX_WRAPPED = r">{\raggedright\arraybackslash}p{42mm}"
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "=": r"=\allowbreak{}",
        "<": "$<$",
        ">": "$>$",
    }
)


def to_markdown(table: Table) -> str:
    """The table and its caption; the columns line up in a terminal."""
    columns = []
    for title, alignment, cells in table.columns:
        texts = [_MARKDOWN.sub(r"\\\g<0>", text) for text in (title, *cells)]
        width = max(3, *map(len, texts))
        side = "<" if alignment == "l" else ">"
        rule = "-" * width if alignment == "l" else "-" * (width - 1) + ":"
        first, *others = [f"{text:{side}{width}}" for text in texts]
        columns.append([first, rule, *others])
    lines = [f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)]
    caption = textwrap.fill(_MARKDOWN.sub(r"\\\g<0>", table.caption), _WIDTH)
    return "\n".join([*lines, "", caption, ""])


def to_csv(table: Table) -> str:
    """The numbers, not rounded, with a line of names; those not known are empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, [*table.numbers[0]], lineterminator="\n")
    writer.writeheader()
    for row in table.numbers:
        writer.writerow({name: _known(value) for name, value in row.items()})
    return file.getvalue()


def _known(value: str | int | float) -> str | int | float:
    return "" if isinstance(value, float) and math.isnan(value) else value


def to_latex(table: Table) -> str:
    """A `table` environment for the LaTeX packages array, booktabs and graphicx.

    Long texts are wrapped, and a table that is wider than the text is made smaller.
    """
    alignment = "".join(
        _LATEX_WRAPPED
        if max(map(len, column.cells)) > _LATEX_WIDTH
        else column.alignment
        for column in table.columns
    )
    header = _latex_row([column.title for column in table.columns])
    return "\n".join(
        [
            r"% Needs \usepackage{array,booktabs,graphicx}.",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(table.caption)}}}",
            r"\medskip",
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            header,
            r"\midrule",
            *map(_latex_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _latex_row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(map(_latex, cells))} \\"


def _latex(text: str) -> str:
    """`text` with its special characters escaped, and minus signs."""
    return _NEGATIVE.sub("$-$", text.translate(_LATEX))
