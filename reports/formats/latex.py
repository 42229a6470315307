"""The tables of a report as LaTeX, for a paper that loads booktabs and graphicx."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.reports.page.page import Page, Section
from segbench.reports.tables.grid import Cell, Column, Table

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


def to_latex(page: Page) -> str:
    """Write the tables of a report as LaTeX floats.

    Args:
        page: the content of the report.
    """
    head = "% Needs \\usepackage{booktabs,graphicx,textcomp} and \\usepackage[T1]{fontenc}.\n"
    return head + "\n".join(_float(section) for section in page.sections)


def escape(text: str) -> str:
    """Return one line of text for LaTeX, with special characters escaped; one beyond Latin-1 becomes "[U+2713]"."""
    flat = " ".join(text.split())
    return "".join(_SPECIAL.get(c, c if c.isprintable() and ord(c) < 256 else f"[U+{ord(c):04X}]") for c in flat)


def _float(section: Section) -> str:
    table = section.table
    notes = " ".join(escape(note) for note in section.notes)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.heading)}. {escape(table.caption)} {notes}}}",
        rf"\label{{tab:{table.name}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        *_head(table),
        *_body(table),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


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


def _body(table: Table) -> list[str]:
    lines = []
    for block in table.blocks:
        lines.append(r"\midrule")
        if block.label:
            lines.append(rf"\multicolumn{{{len(table.columns) + 1}}}{{l}}{{\emph{{{escape(block.label)}}}}} \\")
        for row in block.rows:
            lines.append(" & ".join([escape(row.label), *(_mean(cell) for cell in row.cells)]) + r" \\")
            below = [_below(cell) for cell in row.cells]
            lines += [" & ".join(["", *line]) + r" \\" for line in _lines(below)]
    return lines


def _mean(cell: Cell) -> str:
    if cell.mean is None:
        return {"failed": "failed", "missing": "not run", "not applicable": "n/a"}.get(cell.state, "")
    mean = {1: rf"\textbf{{{cell.mean:.1f}}}", 2: rf"\underline{{{cell.mean:.1f}}}"}.get(cell.rank, f"{cell.mean:.1f}")
    return mean + ("$^{*}$" if cell.significant else "") + (r"$^{\dagger}$" if cell.flags else "")


def _below(cell: Cell) -> list[str]:
    """Return the lines below a mean, in small type: deviation, runs done, published value."""
    found = []
    if cell.std is not None:
        found.append(rf"$\pm$ {cell.std:.1f}")
    if cell.state == "partial":
        found.append(f"{cell.done} of {cell.expected}")
    if cell.published is not None and cell.published.mean is not None:
        own = "" if cell.difference is None else f" (${cell.difference:+.1f}$)"
        found.append(f"published {cell.published.mean:.1f}{own}")
    return [rf"{{\footnotesize {text}}}" for text in found]


def _lines(columns: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[c[i] if i < len(c) else "" for c in columns] for i in range(max(map(len, columns)))]
