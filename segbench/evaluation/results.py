"""A tally -> a record: scores, worst cases of ensembles, certificates, and what targeted attacks reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.evaluation.regions import region_extras
from segbench.evaluation.tally import Tally
from segbench.plan.evaluations import EvalCell
from segbench.reports.metrics.registry import measured
from segbench.reports.metrics.tallied import Tallied
from segbench.reports.records import Record
from segbench.reports.statistics import Absent, Counts, mean_iou, scores
from segbench.reports.worst_case import worst_case


@dataclass(frozen=True)
class Found:
    """What a finished evaluation found.

    Attributes:
        record: the record, without its provenance.
        counts: its counts, (N, 3, C); of the worst part of each image, where the attack is an ensemble.
        parts: the counts of an ensemble's parts.
        tallies: what else was counted, by family, each (N, ...); of the same parts as `counts`.
    """

    record: Record
    counts: Counts
    parts: dict[str, Counts]
    tallies: dict[str, NDArray[Any]]


def as_record(cell: EvalCell, tally: Tally, absent: Absent, classes: tuple[str, ...]) -> Found:
    """Return the record of a finished evaluation, and the counts behind it.

    Args:
        cell: the evaluation.
        tally: its findings on all images.
        absent: what a class counts that is neither true nor predicted.
        classes: names of the classes.
    """
    parts = {name: np.stack(counts) for name, counts in tally.counts.items()}
    extras: dict[str, float | str | None] = {}
    if "" in parts:
        counts = parts.pop("")
        choice = [""] * len(counts)
    else:
        worst = worst_case(list(parts.values()), absent)
        choice = [list(parts)[index] for index in worst.choice]
        counts = np.stack(list(parts.values()))[worst.choice, np.arange(len(worst.choice))]
        extras = {"worst_image_accuracy": worst.image_accuracy, "worst_aacc": worst.aacc}
        extras["miou_lower_bound"] = worst.miou_bound
    if cell.attack.attack().attack.minimises is not None:
        extras["median_distance"] = float(np.median(tally.distances))
    if tally.on_target:
        reached, asked = np.sum(tally.on_target, axis=0)
        extras["on_target"] = 100 * float(reached / max(asked, 1))
    extras.update(region_extras(tally.outside, tally.hidden, absent))
    if tally.certified:
        extras.update(certificates(np.sum(tally.certified, axis=0), tally.radius, absent))
    own = [tally.tallies.get(part, {}) for part in choice]
    tallies = {family: np.stack([one[family][image] for image, one in enumerate(own)]) for family in tally.families}
    expected = cell.expected()
    record = expected.model_copy(
        update={
            "status": "done",
            "classes": classes,
            "n_images": len(counts),
            "scores": scores(counts, absent),
            "metrics": measured(Tallied(counts, absent, tallies)),
            "tallied": tally.families,
            "budget_used": max(tally.distances) if expected.threat.norm else None,
            "passes": {"forward": tally.passes.forward, "backward": tally.passes.backward},
            "extras": extras,
        }
    )
    return Found(record, counts, parts, tallies)


def certificates(counts: Counts, radius: float, absent: Absent) -> dict[str, float]:
    """Score certificates, in per cent; a pixel without one counts as wrong.

    Args:
        counts: of `certified_confusion`, over all images, (3, C).
        radius: L2 radius in [0, 1] units.
        absent: what a class counts that is neither true nor predicted.
    """
    right, given, true = counts.sum(1) / max(1, counts[2].sum())
    return {
        "certified_miou": 100 * float(mean_iou(counts, absent)),
        "certified_aacc": 100 * float(right),
        "certified_radius": radius,
        "abstained": 100 * float(true - given),
    }
