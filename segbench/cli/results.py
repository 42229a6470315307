"""The results of a run as tables for a terminal. The report holds more."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segbench.reports.formats.frames import plain
from segbench.reports.labels import Labels
from segbench.reports.records import Record
from segbench.reports.tables.layouts import row_label
from segbench.reports.visible import one_line

if TYPE_CHECKING:
    from segbench.result import Result

FLAG = "⚑"
"""Marks a value that failed a sanity check, as in reports."""

WIDE = 10_000
"""A width, in characters, at which every table fits."""


def results_tables(records: Sequence[Record], console: Console) -> list[Table]:
    """Return a table per dataset and setting: a row per network, a column per attack, mIoU in per cent.

    Args:
        records: evaluations in the order of the matrix; failed and missing ones are shown as such.
        console: the console of the tables; a table that is too wide for it is split.
    """
    tables: list[Table] = []
    for dataset in dict.fromkeys(r.dataset.short for r in records):
        for setting in ("white-box", "black-box"):
            chosen = [r for r in records if r.dataset.short == dataset and r.setting == setting]
            if setting == "white-box":
                chosen += [r for r in records if r.dataset.short == dataset and r.setting == "clean"]
            attacks = sorted(dict.fromkeys(r.attack.short for r in chosen), key=lambda short: short != "clean")
            tables += _fitting(f"{dataset}, {setting}, mIoU in per cent", chosen, attacks, console)
    return tables


def as_plain(result: Result) -> dict[str, Any]:
    """Return a result as data: the columns of records.csv for every record, numbers and options as such."""
    return {
        "matrix": result.manifest.name,
        "title": result.manifest.title,
        "store": str(result.store),
        "failed": sum(record.status != "done" for record in result.records),
        "records": plain(result.records),
    }


def _fitting(title: str, records: Sequence[Record], attacks: Sequence[str], console: Console) -> list[Table]:
    """Return tables of these attacks, each narrow enough for the console if that is possible."""
    if not attacks:
        return []
    table = _table(title, records, attacks)
    wanted = console.measure(table, options=console.options.update(width=WIDE)).maximum
    if len(attacks) == 1 or wanted <= console.width:
        return [table]
    half = (len(attacks) + 1) // 2
    return [table for part in (attacks[:half], attacks[half:]) for table in _fitting(title, records, part, console)]


def _table(title: str, records: Sequence[Record], attacks: Sequence[str]) -> Table:
    table = Table(title=_plain(title), title_justify="left")
    for heading in ("model", "defense"):
        table.add_column(heading)
    for short in attacks:
        table.add_column(_plain(short), justify="right")
    rows: dict[tuple[str, str], dict[str, list[Record]]] = {}
    labels = Labels(records)
    for record in records:
        row = rows.setdefault((labels.model(record.target), row_label(record, labels)), {})
        row.setdefault(record.attack.short, []).append(record)
    for (model, defense), row in rows.items():
        table.add_row(_plain(model), _plain(defense), *(_cell(row.get(short, [])) for short in attacks))
    return table


def _plain(text: str) -> str:
    """Return text in which the terminal, and rich, find nothing to follow."""
    return escape(one_line(text))


def _cell(records: Sequence[Record]) -> str:
    """Return mean and sample standard deviation over seeds (and pairs), with a flag; or the status without numbers."""
    scores = [r.scores.miou for r in records if r.scores is not None]
    absent = len(records) - len(scores)
    if not records:
        return ""
    if not scores:
        return f"[red]{records[0].status}[/]"
    text = f"{fmean(scores):.1f}"
    if len(scores) > 1:
        text += f" [dim]±{stdev(scores):.1f}[/]"
    if any(record.flags for record in records):
        text += f" [yellow]{FLAG}[/]"
    return f"{text} [red]({absent} {next(r.status for r in records if r.scores is None)})[/]" if absent else text
