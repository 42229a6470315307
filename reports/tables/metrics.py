"""Tables of chosen metrics: the rows of the tables of mIoU, and for every attack a column for each metric."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from segbench.reports.differences import over_runs, trainings
from segbench.reports.evidence import Evidence
from segbench.reports.metrics.registry import Metric, metric
from segbench.reports.metrics.resampled import resampled
from segbench.reports.metrics.values import tallied_of, value_of
from segbench.reports.records import Record
from segbench.reports.tables.grid import Block, Cell, Column, Row, Table
from segbench.reports.tables.layouts import ranked

KEPT = 32
"""Evaluations whose counts are kept in memory, because several metrics need them."""


def metric_tables(tables: Sequence[Table], metrics: Sequence[Metric], evidence: Evidence) -> list[Table]:
    """Return a table of metrics for each table of mIoU.

    Args:
        tables: the tables of mIoU.
        metrics: what the columns of an attack show, in order; of one class only where the table has that class.
        evidence: the source of counts, for metrics that do not stand in records.
    """
    kept = replace(evidence, counts=lru_cache(KEPT)(evidence.counts), tallies=lru_cache(KEPT)(evidence.tallies))
    return [_table(table, metrics, kept) for table in tables] if metrics else []


def _table(table: Table, metrics: Sequence[Metric], evidence: Evidence) -> Table:
    own = [found for found in (_of(table, metric) for metric in metrics) if found is not None]
    columns = tuple(
        Column(
            f"{column.label}: {metric.heading}",
            f"{column.group} {column.sub}" if column.group else column.label,
            metric.heading,
            column.attack,
            column.model,
            column.setting,
            metric.name,
        )
        for column in table.columns
        for metric in own
    )
    blocks = tuple(Block(block.label, _rows(block, own, evidence)) for block in table.blocks)
    return replace(
        table,
        name=f"{table.name}-metrics",
        heading=f"{table.heading}, further metrics",
        caption=_caption(table, own),
        columns=columns,
        blocks=blocks,
        remarks=(),
        metrics=tuple(metric.name for metric in own),
    )


def _of(table: Table, own: Metric) -> Metric | None:
    """Return a metric for the classes of a table; None where it is that of a class which they lack."""
    classes = table.first.classes
    try:
        return metric(own.name, classes)
    except ValueError:
        return None


def _rows(block: Block, metrics: Sequence[Metric], evidence: Evidence) -> tuple[Row, ...]:
    rows = [
        replace(row, cells=tuple(_cell(cell, metric, evidence) for cell in row.cells for metric in metrics))
        for row in block.rows
    ]
    return ranked(rows)


def _cell(cell: Cell, own: Metric, evidence: Evidence) -> Cell:
    """Return the values of a metric for the runs of a cell."""
    shown = replace(Cell(cell.state), done=cell.done, expected=cell.expected, flags=cell.flags, records=cell.records)
    shown = replace(shown, digits=own.digits, higher_is_better=own.higher_is_better)
    if cell.mean is None:
        return shown
    found = [value_of(run, own, evidence) for run in cell.records if run.scores]
    tallied = [value for value in found if value is not None]
    values = tuple(value for value in tallied if not math.isnan(value))
    if not values:
        return replace(shown, state="no value" if tallied else "not tallied", done=0)
    low, high = _interval([run for run in cell.records if run.scores], own, evidence)
    return replace(
        shown,
        low=low,
        high=high,
        state="done" if len(values) == cell.expected else "partial",
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        done=len(values),
        values=values,
    )


def _interval(runs: Sequence[Record], own: Metric, evidence: Evidence) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a metric over images and runs; None where a run has no counts or no value."""
    counted = [tallied_of(run, own, evidence) for run in runs]
    known = [tallied for tallied in counted if tallied is not None]
    values = [value for value in map(own.on, known) if value is not None]
    if not values or len(values) < len(runs):
        return None, None
    drawn = np.mean([resampled(own, tallied) for tallied in known], axis=0)
    found = over_runs(np.array(values), *trainings(runs), drawn, len(known[0].counts))
    if math.isnan(found.low):
        return None, None
    return max(0.0, found.low), min(own.most, found.high)


def _caption(table: Table, metrics: Sequence[Metric]) -> str:
    parts = [
        f"{own.heading}{' (%)' if own.per_cent else ''}, {'higher' if own.higher_is_better else 'lower'} is better: "
        f"{own.sentence}"
        for own in metrics
    ]
    what = table.caption.partition(". ")[0].partition("; ")[2]
    return f"{' '.join(parts)} {what[:1].upper()}{what[1:].rstrip('.')}. Best of each model in bold, second underlined."
