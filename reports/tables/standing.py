"""What a network is ranked by where its gradient is not to be trusted: the strongest other attack within the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from segbench.reports.comparable import condition
from segbench.reports.display import with_defense
from segbench.reports.flags import attack_label
from segbench.reports.labels import Labels
from segbench.reports.records import Record
from segbench.reports.sanity import UNTRUSTED
from segbench.reports.tables.grid import Block, Cell, Table
from segbench.reports.tables.layouts import ranked, row_label


@dataclass(frozen=True)
class Other:
    """The evaluation that a run is ranked by in place of its own.

    Attributes:
        miou: its mIoU, in per cent; the run's own where no other attack is stronger.
        label: its attack; empty where no other attack is stronger.
    """

    miou: float
    label: str


def with_standing(tables: Sequence[Table], others: Mapping[str, Other], labels: Labels) -> list[Table]:
    """Rank cells whose gradient is not to be trusted by the strongest other attack of the network within their budget.

    The cells keep the values that were measured; a remark says what they are ranked by.

    Args:
        tables: the tables.
        others: what `strongest` found in all records.
        labels: the labels of components and networks.
    """
    return [_ranked(table, others, labels) for table in tables] if others else list(tables)


def strongest(records: Sequence[Record], labels: Labels) -> dict[str, Other]:
    """Return, for each record whose gradient is not to be trusted, what it is ranked by, by the record's digest."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    doubted = {record.target.digest for record in records if _doubted(record)}
    for record in records:
        if record.target.digest in doubted and record.scores is not None and record.threat.eps is not None:
            groups.setdefault(
                (record.target.digest, record.threat.norm, *condition(record, labels.component_key)), []
            ).append(record)
    found = {}
    for group in groups.values():
        for record in group:
            if record.scores is None or not _doubted(record):
                continue
            within = [o for o in group if (o.threat.eps or 0.0) <= (record.threat.eps or 0.0) * (1 + 1e-9)]
            miou, best = min(((o.scores.miou, o) for o in within if o.scores is not None), key=lambda pair: pair[0])
            stronger = miou < record.scores.miou
            found[record.digest] = Other(miou, attack_label(best, labels) if stronger else "")
    return found


def _doubted(record: Record) -> bool:
    return record.setting == "white-box" and not UNTRUSTED.isdisjoint(record.flags)


def _ranked(table: Table, others: Mapping[str, Other], labels: Labels) -> Table:
    remarks: dict[str, None] = {}
    blocks = []
    for block in table.blocks:
        rows = [
            replace(row, cells=tuple(_standing(cell, others, labels, remarks) for cell in row.cells))
            for row in block.rows
        ]
        changed = any(cell.stands is not None for row in rows for cell in row.cells)
        blocks.append(Block(block.label, ranked(rows)) if changed else block)
    return replace(table, blocks=tuple(blocks), remarks=(*table.remarks, *remarks))


def _standing(cell: Cell, others: Mapping[str, Other], labels: Labels, remarks: dict[str, None]) -> Cell:
    """Return a cell with what it is ranked by, and say so in the remarks."""
    runs = [(run, others.get(run.digest)) for run in cell.records if run.scores is not None]
    if cell.mean is None or not any(other is not None for _, other in runs):
        return cell
    values = [other.miou if other is not None else run.scores.miou for run, other in runs if run.scores is not None]
    names = dict.fromkeys(other.label for _, other in runs if other is not None and other.label)
    first = cell.records[0]
    network = with_defense(labels.model(first.target), row_label(first, labels))
    stands = fmean(values)
    if names:
        remarks[
            f"{network} under {attack_label(first, labels)}: its gradient is not to be trusted; it is ranked by "
            f"{' and '.join(names)}, which leaves {stands:.1f}."
        ] = None
    else:
        remarks[
            f"{network}: its gradient is not to be trusted, and no other attack within its budget is stronger; run "
            "square, or a transfer from another network."
        ] = None
    return replace(cell, stands=stands, stands_by=" and ".join(names))
