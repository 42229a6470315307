"""The results of a run as tables for a terminal. The report holds more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import fmean, stdev
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segbench.reports.evidence import NOTHING, Evidence
from segbench.reports.formats.frames import plain
from segbench.reports.labels import Labels
from segbench.reports.metrics.registry import Metric
from segbench.reports.metrics.values import chosen, value_of
from segbench.reports.page.reading import MOST_NETWORKS
from segbench.reports.records import Record
from segbench.reports.tables import grid
from segbench.reports.tables.corruptions import ALL_KINDS, corruption_tables, without_many
from segbench.reports.tables.layouts import row_label
from segbench.reports.visible import one_line

if TYPE_CHECKING:
    from segbench.result import Result

FLAG = "⚑"
"""Marks a value that failed a sanity check, as in reports."""

WIDE = 10_000
"""A width, in characters, at which every table fits."""


class Shown(NamedTuple):
    """What a table shows of each record.

    Attributes:
        heading: its name and unit.
        digits: number of decimals.
        value: the record's value; None where it was not tallied, NaN where it has none.
    """

    heading: str
    digits: int
    value: Callable[[Record], float | None]


Rows = Mapping[tuple[str, str], Mapping[str, str]]
"""Model and defense -> attack -> what stands in the cell."""

MIOU = Shown("mIoU in per cent", 1, lambda record: record.scores.miou if record.scores else None)


def results_tables(
    records: Sequence[Record],
    console: Console,
    metrics: Sequence[str] = (),
    evidence: Evidence = NOTHING,
    reference: str = "",
    names: Mapping[str, str] = MappingProxyType({}),
) -> list[Table]:
    """Return a table per dataset and setting: a row per network, a column per attack; of mIoU, then of each metric.

    Nobody reads those of more than `MOST_NETWORKS` networks in a terminal: there are none.

    Networks, attacks and datasets have the names that they have in the report.

    Many corruptions have a table of their own, with a row for each network and what is said of all of them together.

    Args:
        records: evaluations in the order of the matrix; failed and missing ones are shown as such.
        console: the console of the tables; a table that is too wide for it is split.
        metrics: names of metrics.
        evidence: the source of their values, where they do not stand in records.
        reference: the network that errors under corruption are divided by; empty for none.
        names: display names of components; see `segbench.reports.labels.Labels`.
    """
    further = [_shown(own, evidence) for own in chosen(metrics, records)]
    labels = Labels(records, names)
    if len({labels.key(record.target) for record in records}) > MOST_NETWORKS:
        return []
    single = without_many(records, labels)
    found = [table for shown in (MIOU, *further) for table in _tables(single, shown, labels, console)]
    if len(single) < len(records):
        found += [_together(table) for table in corruption_tables(records, labels, reference, NOTHING)]
    return found


def _together(table: grid.Table) -> Table:
    """Return what a report's table of corruptions says of all kinds together."""
    shown = Table(title=_plain(f"{table.heading}, mean over kinds and severities"), title_justify="left")
    places = [index for index, column in enumerate(table.columns) if column.group == ALL_KINDS]
    for heading in ("model", "defense"):
        shown.add_column(heading, overflow="fold")
    for index in places:
        shown.add_column(_plain(table.columns[index].sub), justify="right", overflow="fold")
    for block in table.blocks:
        for row in block.rows:
            shown.add_row(_plain(block.label), _plain(row.label), *(_summary(row.cells[index]) for index in places))
    return shown


def _summary(cell: grid.Cell) -> str:
    if cell.mean is None:
        return f"[red]{cell.state}[/]" if cell.state in ("failed", "missing") else cell.words
    spread = "" if cell.std is None else f" [dim]±{cell.text(cell.std)}[/]"
    lacking = f" [red]({cell.expected - cell.done} not done)[/]" if cell.done < cell.expected else ""
    return f"{cell.text(cell.mean)}{spread}{lacking}"


def _shown(own: Metric, evidence: Evidence) -> Shown:
    unit, better = " in per cent" * own.per_cent, "higher" if own.higher_is_better else "lower"
    return Shown(f"{own.heading}{unit}, {better} is better", own.digits, partial(value_of, own=own, evidence=evidence))


def _tables(records: Sequence[Record], shown: Shown, labels: Labels, console: Console) -> list[Table]:
    tables: list[Table] = []
    for dataset in dict.fromkeys(r.dataset.short for r in records):
        for setting in ("white-box", "black-box"):
            own = [r for r in records if r.dataset.short == dataset and r.setting == setting]
            if setting == "white-box":
                own += [r for r in records if r.dataset.short == dataset and r.setting == "clean"]
            called = {r.attack.short: _plain(labels.component("attack", r.attack)) for r in own}
            columns = dict(sorted(called.items(), key=lambda column: column[0] != "clean"))
            if own:
                title = _plain(f"{labels.component('dataset', own[0].dataset)}, {setting}, {shown.heading}")
                tables += _fitting(title, columns, _rows(own, columns, shown, labels), console)
    return tables


def as_plain(result: Result) -> dict[str, Any]:
    """Return a result as data: the columns of records.csv for every record, numbers and options as such."""
    return {
        "matrix": result.manifest.name,
        "title": result.manifest.title,
        "store": str(result.store),
        "failed": sum(record.status not in ("done", "not applicable") for record in result.records),
        "not_applicable": sum(record.status == "not applicable" for record in result.records),
        "records": plain(result.records),
    }


def _rows(records: Sequence[Record], columns: Iterable[str], shown: Shown, labels: Labels) -> Rows:
    """Return what stands in the columns of each row, by the names of its model and its defense."""
    found: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record in records:
        row = found.setdefault((labels.model(record.target), row_label(record, labels)), {})
        row.setdefault(record.attack.short, []).append(record)
    return {
        (_plain(model), _plain(defense)): {short: _cell(row.get(short, []), shown) for short in columns}
        for (model, defense), row in found.items()
    }


def _fitting(title: str, columns: Mapping[str, str], rows: Rows, console: Console) -> list[Table]:
    """Return tables of these columns, each narrow enough for the console if that is possible."""
    table = Table(title=title, title_justify="left")
    for heading in ("model", "defense"):
        table.add_column(heading, overflow="fold")
    for heading in columns.values():
        table.add_column(heading, justify="right", overflow="fold")
    for names, cells in rows.items():
        table.add_row(*names, *(cells[short] for short in columns))
    wanted = console.measure(table, options=console.options.update(width=WIDE)).maximum
    if len(columns) == 1 or wanted <= console.width:
        return [table]
    every, half = list(columns.items()), (len(columns) + 1) // 2
    return [table for part in (every[:half], every[half:]) for table in _fitting(title, dict(part), rows, console)]


def _plain(text: str) -> str:
    """Return text in which the terminal, and rich, find nothing to follow."""
    return escape(one_line(text))


def _cell(records: Sequence[Record], shown: Shown) -> str:
    """Return mean and sample standard deviation over seeds (and pairs), with a flag; or the status without numbers."""
    done = [record for record in records if record.scores is not None]
    absent = len(records) - len(done)
    if not records:
        return ""
    if not done:
        status = next((r.status for r in records if r.status != "not applicable"), None)
        return "[dim]n/a[/]" if status is None else f"[red]{status}[/]"
    tallied = [value for value in map(shown.value, done) if value is not None]
    values = [value for value in tallied if not math.isnan(value)]
    if not values:
        return "-" if tallied else "[dim]not tallied[/]"
    text = f"{fmean(values):.{shown.digits}f}"
    if len(values) > 1:
        text += f" [dim]±{stdev(values):.{shown.digits}f}[/]"
    if any(record.flags for record in records):
        text += f" [yellow]{FLAG}[/]"
    return f"{text} [red]({absent} {next(r.status for r in records if r.scores is None)})[/]" if absent else text
