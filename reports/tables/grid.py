"""The parts of a table of mean mIoU: cells, rows, blocks and columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from segbench.reports.records import Component, Record

State = Literal["done", "partial", "failed", "missing", "not applicable", "not asked for", "not tallied", "no value"]


@dataclass(frozen=True)
class Value:
    """A value from a paper.

    Attributes:
        mean: mIoU in per cent; None where the paper cannot be read.
        std: its standard deviation, if the paper gives one.
        note: a remark on the value, such as how it was measured; may be empty.
    """

    mean: float | None
    std: float | None
    note: str


@dataclass(frozen=True)
class Cell:
    """The runs of one network, over all its seeds, under one attack.

    Attributes:
        state: "partial" if only some of the runs are done; "not applicable" if the attack needs more than the network
            that it would be made on gives; "not tallied" or "no value" where a metric is not there.
        mean: mean mIoU of the runs that are done, in per cent.
        std: their sample standard deviation (n - 1); None for fewer than two runs.
        low: lower end of the 95 % interval, or None.
        high: upper end of that interval, or None.
        done: number of runs that are done.
        expected: number of runs that the matrix asks for.
        rank: 1 for the best value of a column within a block, 2 for the second best, else 0.
        flags: sanity checks that at least one run failed.
        records: the runs.
        published: the value that a paper reports for this cell.
        digits: number of decimals that tables show.
        higher_is_better: the best value is the highest one.
        values: the values of the runs that are done.
        significant: this is the best value, and it is significantly above the second best.
        stands: mean mIoU that the cell is ranked by, because its gradient is not to be trusted; None: by its own mean.
        stands_by: labels of the attacks that left it; empty where none is stronger.
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
    digits: int = 1
    higher_is_better: bool = True
    values: tuple[float, ...] = ()
    stands: float | None = None
    stands_by: str = ""

    @property
    def standing(self) -> float | None:
        """The mean mIoU that the cell is ranked by."""
        return self.mean if self.stands is None else self.stands

    def text(self, value: float, more: int = 0) -> str:
        """Return a value as tables show it.

        Args:
            value: such as the mean.
            more: decimals to add.
        """
        return f"{value:.{self.digits + more}f}"

    @property
    def words(self) -> str:
        """What stands in place of a value where there is none."""
        shown: dict[str, str] = {"missing": "not run", "not applicable": "n/a", "not asked for": "", "no value": "-"}
        return shown.get(self.state, self.state)

    @property
    def difference(self) -> float | None:
        """The mean minus the published mean, in percentage points."""
        if self.mean is None or self.published is None or self.published.mean is None:
            return None
        return self.mean - self.published.mean


@dataclass(frozen=True)
class Column:
    """A column: one attack, or clean images.

    Attributes:
        label: label of the attack in this report.
        group: common heading over neighbouring columns; empty for a column that stands alone.
        sub: heading of the column below its group.
        attack: the attack; None for clean images.
        model: label of the model, in a table whose columns belong to different models.
        setting: "white-box" or "black-box", in a table that holds both.
        metric: name of the metric in it.
    """

    label: str
    group: str
    sub: str
    attack: Component | None
    model: str = ""
    setting: str = ""
    metric: str = "miou"


@dataclass(frozen=True)
class Row:
    """A row: one defense, with a cell per column.

    Attributes:
        label: label of the defense in this report.
        cells: the cells.
        apart: the row is not compared with others, because its attacks are oblivious or its defense is dynamic.
        name: what stands for the label in files for programs, of a row without records; else empty.
    """

    label: str
    cells: tuple[Cell, ...]
    apart: bool = False
    name: str = ""


@dataclass(frozen=True)
class Block:
    """The rows of one model, one per defense. The label is empty in a table whose columns name the models."""

    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table of mIoU; all its values share dataset, split, number of images and protocol (see `comparable`).

    Attributes:
        name: a name that no other table of the report has.
        setting: "white-box", "black-box", or "both" where each column has its own setting.
        heading: setting, dataset and split in a few words.
        caption: sentences that say what the numbers are.
        columns: clean images first, then the attacks in the order of the records.
        blocks: the models.
        remarks: sentences on later additions, such as significance or published values.
        defenses: names of the defenses that the table compares; empty for all of them.
        metrics: names of the metrics in a table of metrics; empty in a table of mIoU.
    """

    name: str
    setting: Literal["white-box", "black-box", "both"]
    heading: str
    caption: str
    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]
    remarks: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    @property
    def first(self) -> Record:
        """The first record that knows its classes, as done ones do, from which what the table shares can be read."""
        runs = (run for *_, cell in self.cells for run in cell.records)
        first = next(runs)
        return first if first.classes else next((run for run in runs if run.classes), first)

    @property
    def cells(self) -> Iterator[tuple[str, Row, Column, Cell]]:
        """Every cell, as (label of its model, row, column, cell)."""
        for block in self.blocks:
            for row in block.rows:
                for column, cell in zip(self.columns, row.cells, strict=True):
                    yield column.model or block.label, row, column, cell

    @property
    def heads(self) -> tuple[tuple[str, int], ...]:
        """The upper row of the head: label and number of columns below it, 0 for a label that spans both rows."""
        heads: list[tuple[str, int]] = []
        for group, members in groupby(self.columns, key=lambda column: column.group):
            run = list(members)
            heads += [(group, len(run))] if group else [(column.label, 0) for column in run]
        return tuple(heads)
