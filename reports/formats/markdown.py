"""A report as Markdown, to read in a pull request or a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from segbench.reports.page.cards import Cards
from segbench.reports.page.facts import Facts
from segbench.reports.page.page import Page
from segbench.reports.tables.grid import Cell, Column, Table
from segbench.reports.visible import one_line

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~])")


def to_markdown(page: Page) -> str:
    """Write a report as Markdown.

    Args:
        page: the content of the report.
    """
    parts = [f"# {escape(page.title)}"]
    if page.verdict:
        parts.append("\n".join(f"- **{escape(line.head)}** {escape(line.text)}" for line in page.verdict))
    parts.append(f"{page.status}.")
    for section in page.sections:
        parts += [f"## {escape(section.table.heading)}", escape(section.table.caption), _table(section.table)]
        if section.notes:
            parts.append("\n".join(f"- {escape(note)}" for note in section.notes))
    if page.cards:
        parts.append("## Reliability cards")
        parts += [part for group in page.cards for part in _cards(group, several=len(page.cards) > 1)]
    if page.regions:
        parts.append("## Patches and hidden objects")
        parts += [_facts(facts) for facts in page.regions]
    if page.failures:
        parts.append(_facts(page.failures))
    if page.trust:
        parts.append("## Are these evaluations to be believed?")
        parts += [_facts(facts) for facts in page.trust]
    if page.facts:
        parts.append("## Provenance")
        parts += [_facts(facts) for facts in page.facts]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Return one line of text for Markdown, with special characters escaped and control characters written out."""
    return _SPECIAL.sub(r"\\\1", one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _table(table: Table) -> str:
    heads = ["model", "defense", *(_head(column) for column in table.columns)]
    rows = [
        [escape(block.label) if index == 0 else "", escape(row.label), *(_cell(cell) for cell in row.cells)]
        for block in table.blocks
        for index, row in enumerate(block.rows)
    ]
    first = 0 if any(block.label for block in table.blocks) else 1
    return grid(heads[first:], [row[first:] for row in rows], numbers_from=2 - first)


def _head(column: Column) -> str:
    return escape(f"{column.group} {column.sub}" if column.group else column.label)


def _cell(cell: Cell) -> str:
    if cell.mean is None:
        return " ".join(filter(None, [cell.words, _published(cell)]))
    shown = cell.text(cell.mean)
    mean = {1: f"**{shown}**", 2: f"<ins>{shown}</ins>"}.get(cell.rank, shown)
    if cell.significant:
        mean += escape("*")
    text = mean if cell.std is None else f"{mean} ± {cell.text(cell.std)}"
    if cell.state == "partial":
        text += f" ({cell.done} of {cell.expected})"
    if cell.flags:
        text += " ⚑"
    return " ".join(filter(None, [text, _published(cell)]))


def _published(cell: Cell) -> str:
    """Return the published value of a cell in brackets, with the difference of the cell's mean from it."""
    if cell.published is None or cell.published.mean is None:
        return ""
    own = "" if cell.difference is None else f", {cell.difference:+.1f}"
    return escape(f"[{cell.published.mean:.1f}{own}]")


def _cards(group: Cards, *, several: bool) -> list[str]:
    """Return the parts of a page that show cards: a table for each network, and one of correlations."""
    parts = [f"### {escape(group.heading)}"] if several else []
    parts.append(escape(group.caption))
    for card in group.cards:
        rows = [
            [escape(text) for text in (score.dimension, score.shown, score.between, score.place, score.how)]
            for score in card.scores
        ]
        heads = ["", "value", "95 % interval", "rank", "measured"]
        parts += [f"**{escape(card.network)}**", grid(heads, rows, numbers_from=len(heads))]
    return [*parts, _facts(group.correlations)] if group.correlations else parts


def _facts(facts: Facts) -> str:
    rows = [[escape(value) for value in row] for row in facts.rows]
    parts = [f"### {escape(facts.heading)}"] + ([escape(facts.caption)] if facts.caption else [])
    return "\n\n".join([*parts, grid(list(facts.columns), rows, numbers_from=len(facts.columns))])


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int) -> str:
    """Return a Markdown table whose columns are also aligned in the source.

    Args:
        heads: heads of the columns.
        rows: the cells, already escaped.
        numbers_from: index of the first column that is aligned to the right.
    """
    widths = [max(3, *(len(row[i]) for row in [heads, *rows])) for i in range(len(heads))]
    rule = ["-" * (w - 1) + ":" if i >= numbers_from else "-" * w for i, w in enumerate(widths)]
    lines = []
    for row in [heads, rule, *rows]:
        padded = [
            v.rjust(w) if i >= numbers_from else v.ljust(w) for i, (v, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)
