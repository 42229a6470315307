"""Published values from papers, one CSV file per paper, and their place beside your own values."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from segbench.reports.tables.grid import Block, Cell, Column, Row, Table, Value


@dataclass(frozen=True)
class PublishedValue:
    """A value that a paper reports.

    Attributes:
        where: names of dataset, setting, model, defense and attack, as segbench calls them.
        options: options that the attack must have.
        value: the value.
    """

    where: tuple[str, str, str, str, str]
    options: Mapping[str, Any]
    value: Value


@dataclass(frozen=True)
class PublishedPaper:
    """A paper and its values.

    Attributes:
        citation: authors, year, venue and tables.
        url: address of the paper.
        protocol: name of the protocol that the paper measured its values by.
        entries: the values; if two belong to one cell, the first is used.
    """

    citation: str
    url: str
    protocol: str
    entries: tuple[PublishedValue, ...]


PAPERS = {
    "xu2021": (
        "Xu, Zhao and Jia 2021 (ICCV), Tables 1 to 6",
        "https://arxiv.org/abs/2003.06555",
        "ddcat-crop-v1",
    ),
    "croce2024": (
        "Croce, Singh and Hein 2024 (ECCV), Tables 1 and 2, and its results on ADE20K",
        "https://arxiv.org/abs/2306.12941",
        "sea-v2",
    ),
}


def load(name: str) -> PublishedPaper:
    """Read the values of a paper.

    Args:
        name: a key of `PAPERS`.

    Raises:
        ValueError: there is no such paper.
    """
    if name not in PAPERS:
        raise ValueError(f"no published values are called {name!r}; there are: {', '.join(PAPERS)}")
    text = (files("segbench.reports.published") / f"{name}.csv").read_text(encoding="utf-8")
    return PublishedPaper(*PAPERS[name], tuple(_entry(row) for row in csv.DictReader(text.splitlines())))


def beside(tables: Sequence[Table], source: PublishedPaper, name: Callable[[str], str] = str) -> list[Table]:
    """Add published values to tables, and rows for defenses that the paper reports but the tables lack.

    Args:
        tables: your tables.
        source: the paper.
        name: name of a defense -> its display name.
    """
    return [_beside(table, source, name) for table in tables]


def _beside(table: Table, source: PublishedPaper, name: Callable[[str], str]) -> Table:
    entries = [entry for entry in source.entries if entry.where[0] == table.first.dataset.name]
    blocks = tuple(_block(block, table, entries, name) for block in table.blocks)
    if blocks == table.blocks:
        return table
    remark = f"Published: {source.citation}, {source.url}; differences are one's own less the published value."
    if table.first.protocol.name != source.protocol or table.first.limit is not None:
        own = table.first.protocol.name + ("" if table.first.limit is None else f" on {table.first.limit} images")
        remark += f" They were measured by {source.protocol} on all images, these by {own}: not like for like."
    cells = [cell for block in blocks for row in block.rows for cell in row.cells]
    remarks = dict.fromkeys(
        f"Of the published values: {c.published.note}." for c in cells if c.published and c.published.note
    )
    return replace(table, blocks=blocks, remarks=(*table.remarks, remark, *remarks))


def _block(block: Block, table: Table, entries: Sequence[PublishedValue], name: Callable[[str], str]) -> Block:
    own = [_of_column(block, index, table, entries) for index in range(len(table.columns))]
    rows, defenses = [], set()
    for row in block.rows:
        defense = next(run.target.defense.name for cell in row.cells for run in cell.records)
        defenses.add(defense)
        if any(run.oblivious for cell in row.cells for run in cell.records):
            rows.append(row)  # The published attacks go through the defense.
        else:
            rows.append(replace(row, cells=_cells(row.cells, defense, own)))
    empty = tuple(Cell("not asked for") for _ in table.columns)
    wanted = table.defenses or tuple(dict.fromkeys(entry.where[3] for column in own for entry in column))
    for defense in wanted:
        cells = _cells(empty, defense, own)
        if defense not in defenses and any(cell.published for cell in cells):
            rows.append(Row(f"{name(defense)} (published)", cells, name=f"{defense} (published)"))
    return replace(block, rows=tuple(rows))


def _of_column(block: Block, index: int, table: Table, entries: Sequence[PublishedValue]) -> list[PublishedValue]:
    """Return the published values of a column of a block, for all defenses."""
    column = table.columns[index]
    setting = column.setting or table.setting
    cells = [cell for row in block.rows for cell in ((row.cells[index],) if column.model else row.cells)]
    models = {run.target.model.name for cell in cells for run in cell.records}
    return [e for e in entries if setting in (e.where[1], "both") and e.where[2] in models and _same(column, e)]


def _cells(cells: Sequence[Cell], defense: str, entries: Sequence[Sequence[PublishedValue]]) -> tuple[Cell, ...]:
    return tuple(
        replace(cell, published=next((entry.value for entry in own if entry.where[3] == defense), None))
        for cell, own in zip(cells, entries, strict=True)
    )


def _same(column: Column, entry: PublishedValue) -> bool:
    if column.attack is None:
        return entry.where[4] == "clean"
    options = column.attack.options
    return column.attack.name == entry.where[4] and all(_equal(options.get(k), v) for k, v in entry.options.items())


def _equal(own: object, published: object) -> bool:
    if isinstance(own, int | float) and isinstance(published, int | float):
        return math.isclose(own, published, rel_tol=1e-6)
    return own == published


def _entry(row: Mapping[str, str]) -> PublishedValue:
    return PublishedValue(
        (row["dataset"], row["setting"], row["model"], row["defense"], row["attack"]),
        json.loads(row["options"] or "{}"),
        Value(_number(row["mean"]), _number(row["std"]), row["note"]),
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
