"""The tables of a report as LaTeX, for a paper that loads booktabs, graphicx and threeparttable."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from segbench.reports.page.page import Page, Section
from segbench.reports.tables.grid import Cell, Column, Table

LONGEST_CAPTION = 120
"""Characters of a caption: three lines of a column in a two-column paper, with the number of the table."""

_SIGNS = {"* ": "*", "⚑ ": r"$\dagger$"}
"""How a note begins that explains a sign -> the sign in LaTeX."""

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": "{-}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def to_latex(page: Page, *, wide: bool = False) -> str:
    """Write the tables of a report as LaTeX floats: a short caption, and everything else in notes below the table.

    Args:
        page: the content of the report.
        wide: each table spans both columns of a two-column paper, with deviations beside the means; otherwise it is as
            wide as one column, with deviations below the means.
    """
    head = (
        "% Needs \\usepackage{booktabs,graphicx,textcomp,threeparttable} and \\usepackage[T1]{fontenc}.\n"
        "\\ifdefined\\segbenchtable\\else\\newsavebox{\\segbenchtable}\\fi\n"
    )
    return head + "\n".join(_float(section, wide) for section in page.sections)


def escape(text: str) -> str:
    """Return one line of text for LaTeX, with special characters escaped; one beyond Latin-1 becomes "[U+2713]"."""
    flat = " ".join(text.split())
    escaped = "".join(_SPECIAL.get(c, c if c.isprintable() and ord(c) < 256 else f"[U+{ord(c):04X}]") for c in flat)
    return re.sub(r"\bL\{-\}inf\b", r"$L_\\infty$", escaped)


def _float(section: Section, wide: bool) -> str:
    table = section.table
    kind = "table*" if wide else "table"
    short = textwrap.shorten(
        f"{table.heading}. mIoU in per cent." if not table.metrics else f"{table.heading}.",
        LONGEST_CAPTION,
        placeholder=" ...",
    )
    whole = [] if table.heading in short else [f"{table.heading}."]
    lines = [
        rf"\begin{{{kind}}}",
        r"\centering",
        r"\sbox{\segbenchtable}{%",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        *_head(table),
        *_body(table, wide),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\begin{threeparttable}",
        rf"\caption{{{escape(short)}}}",
        rf"\label{{tab:{table.name}{'-wide' * wide}}}",
        # threeparttable takes its width from a tabular that is not inside another command.
        r"\begin{tabular}{@{}c@{}}\makebox[\linewidth][c]{%",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{\usebox{\segbenchtable}}}\end{tabular}",
        r"\begin{tablenotes}[flushleft]\footnotesize",
        *(_note(note) for note in [*whole, table.caption, *section.notes]),
        r"\end{tablenotes}",
        r"\end{threeparttable}",
        rf"\end{{{kind}}}",
    ]
    return "\n".join(lines) + "\n"


def _note(note: str) -> str:
    """Return a note as an item, under the sign that it explains."""
    for start, sign in _SIGNS.items():
        if note.startswith(start):
            return rf"\item[{sign}] {escape(note.removeprefix(start))}"
    return rf"\item {escape(note)}"


def _head(table: Table) -> list[str]:
    upper, rules, at = [], [], 2
    for label, width in table.heads:
        if width:
            upper.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(label)}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        else:
            upper.append("")
        at += width or 1
    lower = " & ".join([r"defense", *(_sub(column) for column in table.columns)]) + r" \\"
    return [f" & {' & '.join(upper)} \\\\", " ".join(rules), lower] if rules else [lower]


def _sub(column: Column) -> str:
    return escape(column.sub if column.group else column.label)


def _body(table: Table, wide: bool) -> list[str]:
    lines = []
    for block in table.blocks:
        lines.append(r"\midrule")
        if block.label:
            lines.append(rf"\multicolumn{{{len(table.columns) + 1}}}{{l}}{{\emph{{{escape(block.label)}}}}} \\")
        for row in block.rows:
            lines.append(" & ".join([escape(row.label), *(_mean(cell, wide) for cell in row.cells)]) + r" \\")
            below = [_below(cell, wide) for cell in row.cells]
            lines += [" & ".join(["", *line]) + r" \\" for line in _lines(below)]
    return lines


def _mean(cell: Cell, wide: bool) -> str:
    if cell.mean is None:
        return cell.words
    shown = cell.text(cell.mean)
    mean = {1: rf"\textbf{{{shown}}}", 2: rf"\underline{{{shown}}}"}.get(cell.rank, shown)
    signs = ("$^{*}$" if cell.significant else "") + (r"$^{\dagger}$" if cell.flags else "")
    beside = rf" {{\footnotesize $\pm$ {cell.text(cell.std)}}}" if wide and cell.std is not None else ""
    return mean + signs + beside


def _below(cell: Cell, wide: bool) -> list[str]:
    """Return the lines below a mean, in small type: deviation, runs done, published value."""
    found = []
    if cell.std is not None and not wide:
        found.append(rf"$\pm$ {cell.text(cell.std)}")
    if cell.state == "partial":
        found.append(f"{cell.done} of {cell.expected}")
    if cell.published is not None and cell.published.mean is not None:
        own = "" if cell.difference is None else f" (${cell.difference:+.1f}$)"
        found.append(f"published {cell.published.mean:.1f}{own}")
    return [rf"{{\footnotesize {text}}}" for text in found]


def _lines(columns: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[c[i] if i < len(c) else "" for c in columns] for i in range(max(map(len, columns)))]
