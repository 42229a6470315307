"""Intervals and significance of the values of a table, from the counts of single images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from segbench.reports.statistics import Absent, Counts, interval, paired_bootstrap
from segbench.reports.tables.grid import Block, Cell, Table

RESAMPLES = 4999
"""Bootstrap samples of a comparison: the lowest p-value, 0.0004, stays significant among 100 comparisons."""

LEVEL = 0.05
"""A corrected p-value below this is significant."""

CountsOf = Callable[[str], Counts | None]
"""Digest of an evaluation -> its counts (N, 3, C), or None where the store lacks them."""


def infer(tables: Sequence[Table], counts: CountsOf) -> list[Table]:
    """Add 95 % intervals over images and runs, and mark best values that are significantly above the second best.

    Args:
        tables: the tables.
        counts: digest of an evaluation -> its counts.
    """
    return [_tested(_with_intervals(table, counts), counts) for table in tables]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple comparisons by Holm's step-down method, in the order given."""
    order = np.argsort(p_values, kind="stable")
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for position, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[index]))
        corrected[index] = largest
    return corrected


def _with_intervals(table: Table, counts: CountsOf) -> Table:
    absent = table.first.absent

    def widen(cell: Cell) -> Cell:
        stacked = _stacked(cell, counts) if cell.done > 1 else None
        if stacked is None:
            return cell
        found = interval(stacked, absent)
        return replace(cell, low=found.low, high=found.high)

    blocks = tuple(
        replace(b, rows=tuple(replace(r, cells=tuple(widen(c) for c in r.cells)) for r in b.rows)) for b in table.blocks
    )
    return replace(table, blocks=blocks)


def _tested(table: Table, counts: CountsOf) -> Table:
    """Compare the best value of every column with the second best, within each block."""
    found: list[tuple[int, int, int, float]] = []
    for index, block in enumerate(table.blocks):
        for column in range(len(table.columns)):
            pair = _best_two(block, column)
            p = _p_value(block, column, pair, counts, table.first.absent) if pair else None
            if pair and p is not None:
                found.append((index, pair[0], column, p))
    if not found:
        return table
    corrected = holm([p for *_, p in found])
    marked = {place[:3] for place, p in zip(found, corrected, strict=True) if p < LEVEL}
    blocks = tuple(
        replace(
            block,
            rows=tuple(
                replace(
                    row,
                    cells=tuple(replace(cell, significant=(b, r, c) in marked) for c, cell in enumerate(row.cells)),
                )
                for r, row in enumerate(block.rows)
            ),
        )
        for b, block in enumerate(table.blocks)
    )
    number = "1 comparison" if len(found) == 1 else f"{len(found)} comparisons"
    test = f"paired bootstrap over images and runs, p < {LEVEL} after Holm's correction for {number}"
    remark = (
        f"* significantly above the second of its model and column ({test})."
        if marked
        else f"No best value is significantly above the second of its model and column ({test})."
    )
    return replace(table, blocks=blocks, remarks=(*table.remarks, remark))


def _best_two(block: Block, column: int) -> tuple[int, int] | None:
    means = [
        (row.cells[column].mean, index)
        for index, row in enumerate(block.rows)
        if not row.apart and row.cells[column].stands is None
    ]
    done = [(m, i) for m, i in means if m is not None and block.rows[i].cells[column].state == "done"]
    order = sorted(done, key=lambda item: (-item[0], item[1]))
    return (order[0][1], order[1][1]) if len(order) > 1 else None


def _p_value(block: Block, column: int, pair: tuple[int, int], counts: CountsOf, absent: Absent) -> float | None:
    first, second = (_stacked(block.rows[index].cells[column], counts) for index in pair)
    if first is None or second is None:
        return None
    return paired_bootstrap(first, second, absent, resamples=RESAMPLES).p


def _stacked(cell: Cell, counts: CountsOf) -> Counts | None:
    """Return the counts of all runs of a cell, (R, N, 3, C), or None if one run has none."""
    found = [counts(run.digest) for run in cell.records if run.status == "done"]
    present = [own for own in found if own is not None]
    return np.stack(present) if present and len(present) == len(found) else None
