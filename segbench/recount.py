"""Whether a record says what its counts say. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.reports.metrics.registry import measured
from segbench.reports.metrics.tallied import Tallied, wrong
from segbench.reports.records import Record
from segbench.reports.statistics import scores

TOLERANCE = 1e-6
"""Per cent by which a score may differ from its counts: another numpy sums in another order."""


def disagreement(
    record: Record,
    counts: NDArray[np.int64],
    names: Sequence[str],
    *,
    tallies: Mapping[str, NDArray[Any]] | None = None,
    intervals: bool = False,
) -> str | None:
    """Say where a finished record is not what its counts make of it, or return None.

    Args:
        record: the record.
        counts: per image, (N, 3, C): intersections, predicted and true pixels of every class.
        names: of the images.
        tallies: what was counted beside them, by family; None where that is not at hand.
        intervals: compare the bootstrap interval and the other metrics too, which takes a few hundred times as long.
    """
    if record.scores is None or record.n_images is None or not record.classes:
        return "it is done, and has no scores, images or classes"
    if counts.ndim != 3 or counts.shape != (record.n_images, 3, len(record.classes)) or len(names) != len(counts):
        return f"counts are of shape {counts.shape}, of {len(names)} images, not of its images and classes"
    if record.limit is not None and record.n_images > record.limit:
        return f"{record.n_images} images were scored, more than {record.limit}"
    if contradictory(counts):
        return "counts of pixels contradict each other"
    right, predicted, true = counts.sum(0).tolist()  # whole numbers of Python: most records have few classes
    if not any(true):
        return "counts hold no pixel"
    unions = [p + t - r for r, p, t in zip(right, predicted, true, strict=True)]
    own = [100 * r / union if union else math.nan for r, union in zip(right, unions, strict=True)]
    present = [iou for iou, union in zip(own, unions, strict=True) if union]
    known = [100 * r / t for r, t in zip(right, true, strict=True) if t]
    every = len(own) if record.absent == "zero" else None
    found, stated = record.scores, {}
    stated["mIoU"] = found.miou, sum(present) / (every or len(present))
    stated["mAcc"] = found.macc, sum(known) / (every or len(known))
    stated["aAcc"] = found.aacc, 100 * sum(right) / sum(true)
    if len(found.class_iou) != len(own):
        return f"it has an IoU for {len(found.class_iou)} classes of {len(own)}"
    for name, said, iou in zip(record.classes, found.class_iou, own, strict=True):
        stated[f"IoU of {name}"] = math.nan if said is None else said, iou
    if intervals:
        again = scores(counts, record.absent)
        stated["lower end of the interval"] = found.miou_low, again.miou_low
        stated["upper end of the interval"] = found.miou_high, again.miou_high
    elif not found.miou_low - TOLERANCE <= found.miou_high:
        return f"its interval begins at {found.miou_low:g} and ends at {found.miou_high:g}"
    if tallies is not None and set(record.tallied) != set(tallies):
        there = ", ".join(sorted(tallies)) or "nothing"
        return f"it says that {', '.join(record.tallied) or 'nothing'} was tallied, and there is {there}"
    if intervals and (reason := _other_metrics(record, Tallied(counts, record.absent, tallies or {}))):
        return reason
    for name, (said, counted) in stated.items():
        if not abs(said - counted) <= TOLERANCE and not (math.isnan(said) and math.isnan(counted)):
            return f"{name} is {said:g}, and its counts give {counted:g}"
    return None


def _other_metrics(record: Record, tallied: Tallied) -> str | None:
    """Say where the metrics of a record are not what its tallies make of them, or return None."""
    if reason := wrong(tallied):
        return reason
    again = measured(tallied) if record.metrics else {}
    for name in record.metrics.keys() & again.keys():
        said, counted = record.metrics[name], again[name]
        if (said is None) != (counted is None) or (
            said is not None and counted is not None and not math.isclose(said, counted, abs_tol=TOLERANCE)
        ):
            return f"{name} is {said}, and its tallies give {counted}"
    return None


def contradictory(counts: NDArray[np.int64]) -> bool:
    """Whether no label maps give these counts, (N, 3, C): more pixels right than there are, or predicted than true."""
    right, others = counts[:, :1], counts[:, 1:]
    pixels = others.sum(2)
    wrong = right < 0, right > others, pixels[:, 0] != pixels[:, 1]
    return any(map(np.count_nonzero, wrong))  # which takes a third of the time of the arrays' own `any`
