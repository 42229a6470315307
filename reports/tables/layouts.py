"""Tables as papers print them: a block per model, a row per defense, a column for clean images and for each attack."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Literal

from segbench.reports.comparable import condition
from segbench.reports.display import Parts, with_defense
from segbench.reports.labels import Labels
from segbench.reports.records import Component, Record
from segbench.reports.tables.captions import caption
from segbench.reports.tables.grid import Block, Cell, Column, Row, State, Table


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
            heading = f"Black-box: {where}, {with_defense('substitutes trained', defense)}"
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
    if len({other.precision for other in others}) > 1:
        text += f", {record.precision}"
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
    for _, members in groupby(found.items(), key=lambda item: item[1].name if item[1] else ""):
        run = list(members)
        split = {
            label: own for label, attack in run if attack is not None and (own := labels.parts(attack)) is not None
        }
        if len(run) == 1 or not split:
            columns += [Column(label, "", label, attack) for label, attack in run]
            continue
        first = next(iter(split.values()))
        common = [option for option in first.options if all(option in own.options for own in split.values())]
        group = f"{first.name} ({', '.join(common)})" if common else first.name
        counted = len({own.counted for own in split.values()}) > 1
        subs = [_sub(split[label], common, counted=counted) if label in split else label for label, _ in run]
        for (label, attack), sub in zip(run, subs, strict=True):
            columns.append(Column(label, group, sub if sub and subs.count(sub) == 1 else label, attack))
    return tuple(columns)


def _sub(own: Parts, common: Sequence[str], *, counted: bool) -> str:
    """Return the heading of a column below that of its group: "6 steps", "eps=0.06"."""
    steps = own.counted.removeprefix(f"{own.name}-")
    count = [f"{steps} step{'s' * (steps != '1')}"] if counted else []
    return ", ".join([*count, *(option for option in own.options if option not in common)])


_WITHOUT_VALUES: tuple[State, ...] = ("failed", "missing", "not applicable")
"""States of a cell without values, the first that one of its runs has."""


def _cell(runs: Sequence[Record]) -> Cell:
    if not runs:
        return Cell("not asked for")
    values = [run.scores.miou for run in runs if run.scores]
    states = {run.status for run in runs}
    if not values:
        state = next(own for own in _WITHOUT_VALUES if own in states)
        return Cell(state, expected=len(runs), records=tuple(runs))
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
        values=tuple(values),
    )


def ranked(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Mark the best and second best mean of every column, or what a cell stands for in its place.

    Only rows with all their runs are ranked. Means are equal if they are equal as the table shows them.

    Args:
        rows: the rows of a block.
    """
    ranks: list[list[int]] = []
    for cells in zip(*(row.cells for row in rows), strict=True):
        shown = [
            round(cell.standing, cell.digits)
            if cell.state == "done" and cell.standing is not None and not row.apart
            else None
            for row, cell in zip(rows, cells, strict=True)
        ]
        best = sorted({value for value in shown if value is not None}, reverse=cells[0].higher_is_better)
        ranks.append([best.index(v) + 1 if v is not None and v in best[:2] and len(best) > 1 else 0 for v in shown])
    return tuple(
        replace(row, cells=tuple(replace(c, rank=r) for c, r in zip(row.cells, own, strict=True)))
        for row, own in zip(rows, zip(*ranks, strict=True), strict=True)
    )
