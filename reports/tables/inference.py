"""Intervals and significance of the values of a table, from the counts of single images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from segbench.reports.differences import (
    FEWEST_IMAGES,
    Difference,
    Runs,
    interval_over_runs,
    paired_bootstrap,
    runs_of,
)
from segbench.reports.statistics import Absent, Counts, few_images
from segbench.reports.tables.grid import Block, Cell, Table

RESAMPLES = 4999
"""Bootstrap samples of a comparison: the lowest p-value, 0.0004, stays significant among 100 comparisons."""

LEVEL = 0.05
"""A corrected p-value below this is significant."""

CountsOf = Callable[[str], Counts | None]
"""Digest of an evaluation -> its counts (N, 3, C), or None where the store lacks them."""


def infer(tables: Sequence[Table], counts: CountsOf) -> list[Table]:
    """Add 95 % intervals over images and runs, and mark best values that are significantly above the second best.

    A mark speaks of a defense, so that it needs several trainings of both, and several sources where attacks were made
    on other networks. A remark says what holds of single networks, and another names classes that are in few images.

    Args:
        tables: the tables.
        counts: digest of an evaluation -> its counts.
    """
    return [_few_images(_tested(_with_intervals(table, counts), counts), counts) for table in tables]


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
        runs = _runs(cell, counts) if cell.done > 1 else None
        if runs is None:
            return cell
        found = interval_over_runs(runs, absent)
        return replace(cell, low=found.low, high=found.high)

    blocks = tuple(
        replace(b, rows=tuple(replace(r, cells=tuple(widen(c) for c in r.cells)) for r in b.rows)) for b in table.blocks
    )
    return replace(table, blocks=blocks)


class _Tested(NamedTuple):
    """The best value of a column of a block against the second best."""

    block: int
    row: int
    column: int
    difference: Difference


def _tested(table: Table, counts: CountsOf) -> Table:
    """Compare the best value of every column with the second best, within each block."""
    found: list[_Tested] = []
    for index, block in enumerate(table.blocks):
        for column in range(len(table.columns)):
            pair = _best_two(block, column)
            difference = _difference(block, column, pair, counts, table.first.absent) if pair else None
            if pair and difference is not None:
                found.append(_Tested(index, pair[0], column, difference))
    if not found:
        return table
    corrected = holm([own.difference.p for own in found])
    ahead = [own for own, p in zip(found, corrected, strict=True) if p < LEVEL]
    marked = {own[:3] for own in ahead if own.difference.runs > 1}
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
    return replace(table, blocks=blocks, remarks=(*table.remarks, *_remarks(table, found, ahead)))


def _remarks(table: Table, found: Sequence[_Tested], ahead: Sequence[_Tested]) -> Iterator[str]:
    """Yield what the comparisons of a table say: of defenses where there are several runs, else of two networks."""
    images = table.first.n_images
    if images is not None and images < FEWEST_IMAGES:
        yield f"With fewer than {FEWEST_IMAGES} images no best value is tested against the second."
        return
    number = "1 comparison" if len(found) == 1 else f"{len(found)} comparisons"
    level = f"p < {LEVEL} after Holm's correction for {number}"
    several = [own for own in found if own.difference.runs > 1]
    if several:
        test = f"t-test over runs and images, {level}"
        yield (
            f"* significantly above the second of its model and column ({test})."
            if any(own in ahead for own in several)
            else f"No best value is significantly above the second of its model and column ({test})."
        )
    if len(several) == len(found):
        return
    places = [
        f"{table.blocks[own.block].label} under {table.columns[own.column].label}".removeprefix(" under ")
        for own in ahead
        if own.difference.runs == 1
    ]
    yield (
        "There is no star where a value is of one training, or of attacks made on one training: another training can "
        "turn the order round. "
        + (
            f"Of these two networks on these images, the best is above the second for {'; '.join(places)} "
            if places
            else "Not even of these two networks is the best above the second anywhere "
        )
        + f"(paired bootstrap over images, {level})."
    )


def _few_images(table: Table, counts: CountsOf) -> Table:
    """Say of which classes there are too few images for an interval to hold beyond these images."""
    done = (run for *_, cell in table.cells for run in cell.records if run.status == "done")
    run = next(done, None)
    first = None if run is None else counts(run.digest)
    sentence = few_images(first, table.first.classes, table.first.absent) if first is not None else ""
    return replace(table, remarks=(*table.remarks, sentence)) if sentence else table


def _best_two(block: Block, column: int) -> tuple[int, int] | None:
    means = [
        (row.cells[column].mean, index)
        for index, row in enumerate(block.rows)
        if not row.apart and row.cells[column].stands is None
    ]
    done = [(m, i) for m, i in means if m is not None and block.rows[i].cells[column].state == "done"]
    order = sorted(done, key=lambda item: (-item[0], item[1]))
    return (order[0][1], order[1][1]) if len(order) > 1 else None


def _difference(
    block: Block, column: int, pair: tuple[int, int], counts: CountsOf, absent: Absent
) -> Difference | None:
    first, second = (block.rows[index].cells[column] for index in pair)
    return tested(first, second, counts, absent)


def tested(first: Cell, second: Cell, counts: CountsOf, absent: Absent) -> Difference | None:
    """Return the difference of two cells and what it rests on; None where counts are missing.

    Args:
        first: the cell that is thought to be better.
        second: the other cell; of the same images.
        counts: digest of an evaluation -> its counts.
        absent: see `statistics.mean_iou`.
    """
    runs = [_runs(cell, counts) for cell in (first, second)]
    if runs[0] is None or runs[1] is None:
        return None
    return paired_bootstrap(runs[0], runs[1], absent, resamples=RESAMPLES)


def _runs(cell: Cell, counts: CountsOf) -> Runs | None:
    """Return all runs of a cell, or None if one of them has no counts."""
    done = [run for run in cell.records if run.status == "done"]
    present = [own for own in map(counts, (run.digest for run in done)) if own is not None]
    return runs_of(np.stack(present), done) if present and len(present) == len(done) else None
