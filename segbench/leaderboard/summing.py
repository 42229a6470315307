"""Results of entries: mean, deviation and interval over the runs of one attack on one model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from segbench.leaderboard.checking import is_strong
from segbench.reports import sanity
from segbench.reports.differences import interval_over_runs, runs_of
from segbench.reports.leaderboard.entries import EntryResult, Run
from segbench.reports.records import Record
from segbench.reports.tables.inference import CountsOf

DIGITS = 4
"""Number of decimals of a percentage in an entry."""


def summed(records: Sequence[Record], source: str | None, setting: str, counts: CountsOf) -> EntryResult:
    """Return the result of a network under one attack, or on clean images.

    Args:
        records: one record per run: per seed, or in a black-box setting per pair of target and source.
        source: name of the network that the attack was made on, in a black-box setting; else None.
        setting: setting of the entry.
        counts: digest of a record -> its counts.
    """
    first = records[0]
    is_clean = first.setting == "clean"
    black = setting == "black-box" and not is_clean
    ordered = sorted(records, key=lambda record: (record.target.seed, record.source.seed, record.digest))
    runs = tuple(_run(record, record.source.seed if black else None) for record in ordered)
    values = [record.scores.miou for record in ordered if record.scores is not None]
    mean = statistics.fmean(values)
    low, high = _interval(ordered, counts)
    held = low is None or high is None or low <= round(mean, DIGITS) <= high
    raised = {flag for record in ordered for flag in record.flags}
    return EntryResult(
        attack=None if is_clean else first.attack,
        source=source,
        adaptive=None if is_clean else first.adaptive,
        strong=not is_clean and is_strong(first.attack, setting),
        mean=round(mean, DIGITS),
        std=round(statistics.stdev(values), DIGITS) if len(values) > 1 else None,
        low=low if held else None,
        high=high if held else None,
        runs=runs,
        flags=tuple(flag for flag in sanity.SENTENCES if flag in raised),
        note="" if held else "too few images for an interval: that of the bootstrap does not hold the mean",
    )


def _run(record: Record, source_seed: int | None) -> Run:
    scores = record.scores
    if scores is None:
        raise ValueError(f"record {record.digest} has no scores")
    return Run(
        seed=record.target.seed,
        source_seed=source_seed,
        miou=round(scores.miou, DIGITS),
        miou_low=round(scores.miou_low, DIGITS),
        miou_high=round(scores.miou_high, DIGITS),
        macc=round(scores.macc, DIGITS),
        aacc=round(scores.aacc, DIGITS),
        class_iou=tuple(None if iou is None else round(iou, DIGITS) for iou in scores.class_iou),
        record=record.digest,
        metrics={name: None if own is None else round(own, DIGITS) for name, own in record.metrics.items()},
        extras={name: value for name, value in record.extras.items() if isinstance(value, int | float)},
    )


def _interval(records: Sequence[Record], counts_of: CountsOf) -> tuple[float | None, float | None]:
    """Return the 95 % interval of the mean over images, trainings and sources; None if a run has no counts."""
    counts = [found for record in records if (found := counts_of(record.digest)) is not None]
    if len(counts) < len(records) or len({found.shape for found in counts}) > 1:
        return None, None
    ends = interval_over_runs(runs_of(np.stack(counts), records), records[0].absent)
    return round(ends.low, DIGITS), round(ends.high, DIGITS)
