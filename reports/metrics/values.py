"""Values of metrics for records: as they stand in a record, or from the counts behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from segbench.reports.evidence import Evidence
from segbench.reports.metrics.registry import Metric, measured, metric
from segbench.reports.metrics.tallied import Tallied
from segbench.reports.records import Record


def with_metrics(records: Iterable[Record], evidence: Evidence) -> tuple[Record, ...]:
    """Add to records of earlier versions the metrics that the counts of pixels give.

    Args:
        records: the records.
        evidence: the source of counts.
    """
    return tuple(_completed(record, evidence) for record in records)


def _completed(record: Record, evidence: Evidence) -> Record:
    if record.metrics or record.status != "done":
        return record
    counts = evidence.counts(record.digest)
    if counts is None:
        return record
    return record.model_copy(update={"metrics": measured(Tallied(counts, record.absent))})


def value_of(record: Record, own: Metric, evidence: Evidence) -> float | None:
    """Return the value of a metric for a finished record: NaN where it has none, None where it was not tallied.

    Args:
        record: the record.
        own: the metric.
        evidence: the source of counts, for metrics that do not stand in records.
    """
    if own.name in record.metrics:
        stated = record.metrics[own.name]
        return math.nan if stated is None else stated
    tallied = tallied_of(record, own, evidence)
    if tallied is None:
        return None
    value = own.on(tallied)
    return math.nan if value is None else value


def tallied_of(record: Record, own: Metric, evidence: Evidence) -> Tallied | None:
    """Return the counts that a metric of a record is computed from, or None where they are not all there.

    Args:
        record: the record.
        own: the metric.
        evidence: the source of counts.
    """
    counts = evidence.counts(record.digest)
    if counts is None or own.family == "counts":
        return None if counts is None else Tallied(counts, record.absent)
    tallies = evidence.tallies(record.digest)
    return Tallied(counts, record.absent, tallies) if own.family in tallies else None


def chosen(names: Sequence[str], records: Sequence[Record]) -> list[Metric]:
    """Return metrics by their names, each once; a class in a name is one of the records' classes.

    Args:
        names: the names.
        records: the records of which values are wanted.

    Raises:
        ValueError: there is no such metric, or no record has such a class.
    """
    classes = list(dict.fromkeys(own for record in records for own in record.classes))
    found = {name: metric(name, classes) for name in names}
    return list(found.values())
