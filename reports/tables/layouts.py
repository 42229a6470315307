"""Tables as papers print them: a block per model, a row per defense, a column for clean images and for each attack."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Literal

from segbench.reports.comparable import condition
from segbench.reports.labels import Labels
from segbench.reports.records import Component, Record
from segbench.reports.tables.captions import caption
from segbench.reports.tables.grid import Block, Cell, Column, Row, Table


def layouts(records: Sequence[Record], labels: Labels) -> list[Table]:
    """Return the tables of some records: for each dataset, split, limit and protocol, white-box before black-box.

    Args:
        records: the records, in the order of the matrix.
        labels: the labels of their components.
    """
    tables: list[Table] = []
    for where, own in conditions(records, labels):
        clean = [r for r in own if r.setting == "clean"]
        white = [r for r in own if r.setting == "white-box"]
        if white or clean:
            name = f"table-{len(tables) + 1}"
            tables.append(_table(name, "white-box", f"White-box: {where}", [*clean, *white], labels))
        substitutes: dict[str, list[Record]] = {}
        for record in own:
            if record.setting == "black-box":
                substitutes.setdefault(labels.defense(record.source), []).append(record)
        for defense, black in substitutes.items():
            targets = {labels.key(r.target) for r in black}
            own_clean = [r for r in clean if labels.key(r.target) in targets]
            heading = f"Black-box: {where}, substitutes trained with {defense}"
            tables.append(_table(f"table-{len(tables) + 1}", "black-box", heading, [*own_clean, *black], labels))
    return tables


def conditions(records: Sequence[Record], labels: Labels) -> list[tuple[str, list[Record]]]:
    """Group records whose values may stand in one table, and name each group.

    Args:
        records: the records.
        labels: the labels of their components.

    Returns:
        Pairs of name and records.
    """
    found: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        found.setdefault(condition(record, labels.component_key), []).append(record)
    firsts = [own[0] for own in found.values()]
    return [(_where(own[0], labels, firsts), own) for own in found.values()]


def _where(record: Record, labels: Labels, others: Sequence[Record]) -> str:
    """Return the name of a group: dataset and split, and whatever else differs from the other groups."""
    text = f"{labels.component('dataset', record.dataset)} ({record.split})"
    if len({labels.component_key(other.protocol) for other in others}) > 1:
        text += f", {labels.component('protocol', record.protocol)}"
    if len({other.limit for other in others}) > 1:
        text += ", all images" if record.limit is None else f", first {record.limit} images"
    same = [o for o in others if labels.component_key(o.dataset) == labels.component_key(record.dataset)]
    if len({other.data_fingerprint for other in same}) > 1:
        text += f", data {record.data_fingerprint[:8]}"
    return text


def _table(
    name: str, setting: Literal["white-box", "black-box"], heading: str, records: Sequence[Record], labels: Labels
) -> Table:
    columns = _columns(records, labels)
    position = {column.label: index for index, column in enumerate(columns)}
    models: dict[str, dict[object, dict[bool, list[list[Record]]]]] = {}
    for record in records:
        defenses = models.setdefault(labels.model(record.target), {})
        rows = defenses.setdefault(labels.key(record.target), {})
        runs = rows.setdefault(record.oblivious, [[] for _ in columns])
        runs[position[column_label(record, labels)]].append(record)
    blocks = tuple(
        Block(model, rows_of([rows[oblivious] for rows in defenses.values() for oblivious in sorted(rows)], labels))
        for model, defenses in models.items()
    )
    shown = [cell for block in blocks for row in block.rows for cell in row.cells]
    return Table(name, setting, heading, caption(setting, records, shown, labels), columns, blocks)


def rows_of(rows: Sequence[Sequence[Sequence[Record]]], labels: Labels) -> tuple[Row, ...]:
    """Return the rows of a block, with the best and second best value of every column marked.

    Args:
        rows: for each row, the runs of each column.
        labels: the labels of their components.
    """
    return ranked([_row(columns, labels) for columns in rows])


def _row(columns: Sequence[Sequence[Record]], labels: Labels) -> Row:
    """Return the row of a defense; either all its attacks are oblivious, or none."""
    first = next(run for runs in columns for run in runs)
    return Row(row_label(first, labels), tuple(_cell(runs) for runs in columns), apart=first.dynamic or first.oblivious)


def row_label(record: Record, labels: Labels) -> str:
    """Return the label of a record's row: "ddcat", "teacher-student (dynamic)", "jpeg, oblivious attack"."""
    dynamic, oblivious = " (dynamic)" * record.dynamic, ", oblivious attack" * record.oblivious
    return f"{labels.defense(record.target)}{dynamic}{oblivious}"


def column_label(record: Record, labels: Labels) -> str:
    """Return the label of a record's column."""
    return "clean" if record.setting == "clean" else labels.component("attack", record.attack)


def _columns(records: Sequence[Record], labels: Labels) -> tuple[Column, ...]:
    found: dict[str, Component | None] = {}
    if any(record.setting == "clean" for record in records):
        found["clean"] = None
    for record in records:
        if record.setting != "clean":
            found.setdefault(labels.component("attack", record.attack), record.attack)
    columns: list[Column] = []
    for name, members in groupby(found.items(), key=lambda item: item[1].name if item[1] else ""):
        run = list(members)
        options = [_options(label, name) for label, _ in run]
        common = [option for option in options[0] if all(option in own for own in options)]
        group = f"{name}({', '.join(common)})" if common else name
        for (label, attack), own in zip(run, options, strict=True):
            sub = ", ".join(option for option in own if option not in common)
            columns.append(Column(label, group if len(run) > 1 else "", sub if len(run) > 1 and sub else label, attack))
    return tuple(columns)


def _options(label: str, name: str) -> list[str]:
    """Return the options in a component's label: "bim(steps=3, size=[4, 5])" gives "steps=3" and "size=[4, 5]"."""
    inside = label.removeprefix(f"{name}(").removesuffix(")") if label.startswith(f"{name}(") else ""
    return re.split(r", (?![^\[({]*[\])}])", inside) if inside else []


def _cell(runs: Sequence[Record]) -> Cell:
    if not runs:
        return Cell("not asked for")
    values = [run.scores.miou for run in runs if run.scores]
    states = {run.status for run in runs}
    if not values:
        return Cell("failed" if "failed" in states else "missing", expected=len(runs), records=tuple(runs))
    only = runs[0].scores if len(runs) == 1 else None
    return Cell(
        state="done" if len(values) == len(runs) else "partial",
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        low=only.miou_low if only else None,
        high=only.miou_high if only else None,
        done=len(values),
        expected=len(runs),
        flags=tuple(sorted({flag for run in runs for flag in run.flags})),
        records=tuple(runs),
    )


def ranked(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Mark the best and second best mean of every column, or what a cell stands for in its place.

    Only rows with all their runs are ranked. Means are equal if they are equal with one decimal, as the table shows
    them.
    """
    ranks: list[list[int]] = []
    for cells in zip(*(row.cells for row in rows), strict=True):
        shown = [
            round(cell.standing, 1) if cell.state == "done" and cell.standing is not None and not row.apart else None
            for row, cell in zip(rows, cells, strict=True)
        ]
        best = sorted({value for value in shown if value is not None}, reverse=True)
        ranks.append([best.index(v) + 1 if v is not None and v in best[:2] and len(best) > 1 else 0 for v in shown])
    return tuple(
        replace(row, cells=tuple(replace(c, rank=r) for c, r in zip(row.cells, own, strict=True)))
        for row, own in zip(rows, zip(*ranks, strict=True), strict=True)
    )
