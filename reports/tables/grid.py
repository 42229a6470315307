"""A table of means: its cells, rows, blocks and columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from segbench.reports.records import Component, Record

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
        model: the model that it is about, where columns and not blocks tell models apart.
        setting: "white-box" or "black-box", where columns and not tables tell these apart.
    """

    label: str
    group: str
    sub: str
    attack: Component | None
    model: str = ""
    setting: str = ""


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
    """A model: a row per defense; without a label, of the models that its columns name."""

    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table of mIoU; all its values share dataset, split, number of images and protocol.

    Attributes:
        name: unique among the tables of a report.
        setting: "white-box", "black-box", or "both" where columns tell these apart.
        heading: what is attacked how, in a few words.
        caption: what the numbers are, in sentences.
        columns: clean images first, then the attacks in the order of the records.
        blocks: the models.
        remarks: what was added to the table, in sentences.
        defenses: names of the defenses that it compares; empty for all that there are.
    """

    name: str
    setting: Literal["white-box", "black-box", "both"]
    heading: str
    caption: str
    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]
    remarks: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()

    @property
    def first(self) -> Record:
        """A record; what all of a table share may be read from it."""
        return next(run for *_, cell in self.cells for run in cell.records)

    @property
    def cells(self) -> Iterator[tuple[str, Row, Column, Cell]]:
        """Every cell, with the label of its model, its row and its column."""
        for block in self.blocks:
            for row in block.rows:
                for column, cell in zip(self.columns, row.cells, strict=True):
                    yield column.model or block.label, row, column, cell

    @property
    def heads(self) -> tuple[tuple[str, int], ...]:
        """The upper row of the head: a label and how many columns stand below it, 0 where it spans both rows."""
        heads: list[tuple[str, int]] = []
        for group, members in groupby(self.columns, key=lambda column: column.group):
            run = list(members)
            heads += [(group, len(run))] if group else [(column.label, 0) for column in run]
        return tuple(heads)
