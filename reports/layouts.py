"""Records -> tables laid out as in papers: a block per model, a row per defense, clean and attacks as columns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from reports.captions import caption
from reports.labels import Labels, component_key
from reports.records import Component, Record

State = Literal["done", "partial", "failed", "missing", "not asked for"]


@dataclass(frozen=True)
class Value:
    """A value from elsewhere.

    Attributes:
        mean: mIoU in per cent; None where it is not known.
        std: its standard deviation.
        note: what must be known of it.
    """

    mean: float | None
    std: float | None
    note: str


@dataclass(frozen=True)
class Cell:
    """What the runs of one defense under one attack found.

    Attributes:
        state: "partial" where some runs are done and others are not.
        mean: mean mIoU of the runs that are done, in per cent.
        std: their sample standard deviation (n - 1); None for fewer than two.
        low: lower end of the 95 % interval, where it is known.
        high: upper end of it.
        done: number of runs that are done.
        expected: number of runs asked for.
        rank: 1 for the best of a block's column, 2 for the second, else 0.
        flags: sanity checks that a run did not pass.
        records: the runs.
        published: what a paper reports for it.
        significant: whether it is the best and its lead over the second is significant.
    """

    state: State
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    done: int = 0
    expected: int = 0
    rank: int = 0
    flags: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()
    published: Value | None = None
    significant: bool = False

    @property
    def difference(self) -> float | None:
        """Own mean less the published one, in percentage points."""
        if self.mean is None or self.published is None or self.published.mean is None:
            return None
        return self.mean - self.published.mean


@dataclass(frozen=True)
class Column:
    """An attack.

    Attributes:
        label: its name in this report.
        group: head over neighbouring columns of one attack; empty where it stands alone.
        sub: its name below that head.
        attack: the attack; None for clean images.
    """

    label: str
    group: str
    sub: str
    attack: Component | None


@dataclass(frozen=True)
class Row:
    """A defense: a cell per column.

    Attributes:
        label: its name in this report.
        cells: its values.
        apart: they are not to be held against other rows: the attacks are oblivious, or the defense is dynamic.
    """

    label: str
    cells: tuple[Cell, ...]
    apart: bool = False


@dataclass(frozen=True)
class Block:
    """A model: a row per defense."""

    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table of mIoU; all its values share dataset, split, number of images and protocol.

    Attributes:
        name: unique among the tables of a report.
        setting: "white-box" or "black-box".
        heading: what is attacked how, in a few words.
        caption: what the numbers are, in sentences.
        columns: clean images first, then the attacks in the order of the records.
        blocks: the models.
        remarks: what was added to the table, in sentences.
    """

    name: str
    setting: Literal["white-box", "black-box"]
    heading: str
    caption: str
    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]
    remarks: tuple[str, ...] = ()

    @property
    def first(self) -> Record:
        """A record; what all of a table share may be read from it."""
        return next(run for block in self.blocks for row in block.rows for cell in row.cells for run in cell.records)

    @property
    def heads(self) -> tuple[tuple[str, int], ...]:
        """The upper row of the head: a label and how many columns stand below it, 0 where it spans both rows."""
        heads: list[tuple[str, int]] = []
        for group, members in groupby(self.columns, key=lambda column: column.group):
            run = list(members)
            heads += [(group, len(run))] if group else [(column.label, 0) for column in run]
        return tuple(heads)


def layouts(records: Sequence[Record], labels: Labels) -> list[Table]:
    """Lay out all tables that the records hold: white-box before black-box, per dataset, split, limit and protocol.

    Args:
        records: the records, in the order of the matrix.
        labels: the names of their components.
    """
    conditions: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        conditions.setdefault(_condition(record), []).append(record)
    tables: list[Table] = []
    firsts = [own[0] for own in conditions.values()]
    for own in conditions.values():
        where = _where(own[0], labels, firsts)
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


def _condition(record: Record) -> tuple[object, ...]:
    """What all values of a table share."""
    return (
        component_key(record.dataset),
        record.data_fingerprint,
        record.split,
        record.limit,
        component_key(record.protocol),
        record.absent,
    )


def _where(record: Record, labels: Labels, others: Sequence[Record]) -> str:
    """Name a condition; protocol, limit and fingerprint only where these tell two tables apart."""
    text = f"{labels.component('dataset', record.dataset)} ({record.split})"
    if len({component_key(other.protocol) for other in others}) > 1:
        text += f", {labels.component('protocol', record.protocol)}"
    if len({other.limit for other in others}) > 1:
        text += ", all images" if record.limit is None else f", first {record.limit} images"
    same = [o for o in others if component_key(o.dataset) == component_key(record.dataset)]
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
        runs[position[_column_label(record, labels)]].append(record)
    blocks = tuple(
        Block(
            model, _ranked([_row(rows[oblivious], labels) for rows in defenses.values() for oblivious in sorted(rows)])
        )
        for model, defenses in models.items()
    )
    shown = [cell for block in blocks for row in block.rows for cell in row.cells]
    return Table(name, setting, heading, caption(setting, records, shown, labels), columns, blocks)


def _row(columns: Sequence[Sequence[Record]], labels: Labels) -> Row:
    """Return the row of a defense under attacks that are all oblivious, or all not."""
    first = next(run for runs in columns for run in runs)
    label = labels.defense(first.target)
    if first.dynamic:
        label += " (dynamic)"
    if first.oblivious:
        label += ", oblivious attack"
    return Row(label, tuple(_cell(runs) for runs in columns), apart=first.dynamic or first.oblivious)


def _column_label(record: Record, labels: Labels) -> str:
    return "clean" if record.setting == "clean" else labels.component("attack", record.attack)


def _columns(records: Sequence[Record], labels: Labels) -> tuple[Column, ...]:
    found: dict[str, Component | None] = {}
    if any(record.setting == "clean" for record in records):
        found["clean"] = None
    for record in records:
        if record.setting != "clean":
            found.setdefault(labels.component("attack", record.attack), record.attack)
    columns: list[Column] = []
    for name, members in groupby(found.items(), key=lambda item: item[1].name if item[1] else None):
        run = list(members)
        for label, attack in run:
            sub = label.removeprefix(f"{name}(").removesuffix(")") if len(run) > 1 and name else ""
            columns.append(Column(label, name if len(run) > 1 and name else "", sub or label, attack))
    return tuple(columns)


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


def _ranked(rows: list[Row]) -> tuple[Row, ...]:
    """Mark the best and second-best mean of every column among rows with all their runs; equal as shown is equal."""
    ranks: list[list[int]] = []
    for cells in zip(*(row.cells for row in rows), strict=True):
        shown = [
            round(cell.mean, 1) if cell.state == "done" and cell.mean is not None and not row.apart else None
            for row, cell in zip(rows, cells, strict=True)
        ]
        best = sorted({value for value in shown if value is not None}, reverse=True)
        ranks.append([best.index(v) + 1 if v is not None and v in best[:2] and len(best) > 1 else 0 for v in shown])
    return tuple(
        replace(row, cells=tuple(replace(c, rank=r) for c, r in zip(row.cells, own, strict=True)))
        for row, own in zip(rows, zip(*ranks, strict=True), strict=True)
    )
