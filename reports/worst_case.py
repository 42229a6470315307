"""The worst case over several attacks: an attacker chooses one for each image. Computed from stored counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.reports.comparable import condition
from segbench.reports.evidence import Evidence
from segbench.reports.labels import ComponentKeys
from segbench.reports.metrics.registry import measured
from segbench.reports.metrics.tallied import Tallied, Tallies
from segbench.reports.records import Component, Manifest, Record, RecordedThreat
from segbench.reports.statistics import Absent, Counts, image_accuracy, mean_iou, scores

TRANSFER = "transfer"
"""Member of a set that stands for every attack on a network that was made on another one."""


@dataclass(frozen=True)
class WorstCase:
    """Scores, in per cent, under an attacker who chooses one of several attacks for each image.

    Attributes:
        image_accuracy: mean over images of the lowest pixel accuracy under any of the attacks.
        aacc: share of all valid pixels that are correct when each image gets the attack with the fewest correct pixels.
        miou: mIoU under the greedy choice of an attack per image; an attacker can reach it.
        miou_bound: lower bound of the mIoU over all choices of an attack per image.
        choice: (N,) index of the greedily chosen attack of each image.
    """

    image_accuracy: float
    aacc: float
    miou: float
    miou_bound: float
    choice: NDArray[np.int64]


def with_worst_cases(manifest: Manifest, evidence: Evidence) -> Manifest:
    """Add one record per network and set of attacks in `worst_of`, after all other records.

    A set lists attacks by name, such as "bim" for all BIM attacks, or by short string, such as "bim(steps=3)". With
    "transfer" among them, an attacker of the network itself may also take the images that were made on other networks.
    The mIoU of the new record is that of the greedy choice of an attack per image; its `extras` hold the worst
    accuracies and a lower bound of the mIoU.

    Args:
        manifest: the records of a matrix.
        evidence: the source of their counts.

    Raises:
        ValueError: the counts of a record are gone.
    """
    groups: dict[tuple[object, ...], list[Record]] = {}
    transfers: dict[tuple[object, ...], list[Record]] = {}
    keys = ComponentKeys()
    for record in manifest.records if manifest.worst_of else ():
        shared = condition(record, keys)
        key = (record.target.digest, record.source.digest, record.oblivious, *shared)
        groups.setdefault(key, []).append(record)
        if record.setting == "black-box":
            transfers.setdefault((record.target.digest, *shared), []).append(record)
    added = []
    for (target, source, oblivious, *where), group in groups.items():
        made_elsewhere = transfers.get((target, *where), []) if source == target and not oblivious else []
        for column, members in manifest.worst_of.items():
            aggregated = _worst(column, members, group, made_elsewhere, evidence)
            if aggregated is not None:
                added.append(aggregated)
    known = {record.digest: record for record in (*manifest.records, *added)}
    return manifest.model_copy(update={"records": tuple(known.values())})


def _worst(
    column: str, members: Iterable[str], group: list[Record], transfers: list[Record], evidence: Evidence
) -> Record | None:
    """Return the record of one set of attacks on one network; None if one of them was not asked for, or is none."""
    wanted = list(members)
    attacked = [record for record in group if record.setting != "clean"]
    chosen = [r for r in attacked if r.attack.short in wanted or r.attack.name in wanted]
    there = {TRANSFER if transfers else "", *(name for r in chosen for name in (r.attack.short, r.attack.name))}
    if not there.issuperset(wanted):
        return None
    chosen += transfers if TRANSFER in wanted else []
    done = [record for record in chosen if record.status == "done"]
    attack = Component(name=column, options={"of": wanted}, short=column)
    digest = hashlib.sha256("\n".join(["worst-of", column, *(r.digest for r in chosen)]).encode()).hexdigest()[:16]
    changed: dict[str, object] = {
        "digest": digest,
        "attack": attack,
        "threat": _threat(chosen),
        "adaptive": next((r.adaptive for r in chosen if r.adaptive is not None), None),
        "provenance": {},
        "flags": (),
        "curve": (),
    }
    if len(done) < len(chosen):
        undone = [record for record in chosen if record.status != "done"]
        lacking = next((record for record in undone if record.status != "not applicable"), undone[0])
        reason = f"{lacking.attack.short} is {lacking.status}"
        status = "not applicable" if lacking.status == "not applicable" else "missing"
        gone: dict[str, object] = {"status": status, "scores": None, "metrics": {}, "tallied": (), "error": reason}
        return chosen[0].model_copy(update={**changed, **gone})
    parts = [part for record in done for part in evidence.parts(record.digest)]
    if not parts:
        raise ValueError(
            f"the counts of {done[0].attack.short} ({done[0].digest}) are gone; delete its folder to do it again"
        )
    worst = worst_case(parts, done[0].absent)
    counts = np.stack(parts)[worst.choice, np.arange(len(worst.choice))]
    tallies = _chosen(worst.choice, done, len(parts), evidence)
    extras = {
        "worst_image_accuracy": worst.image_accuracy,
        "worst_aacc": worst.aacc,
        "miou_lower_bound": worst.miou_bound,
    }
    passes: Mapping[str, int] = {
        kind: sum(record.passes.get(kind, 0) for record in done) for kind in ("forward", "backward")
    }
    used = [record.budget_used for record in done if record.budget_used is not None]
    return done[0].model_copy(
        update={
            **changed,
            "scores": scores(counts, done[0].absent),
            "metrics": measured(Tallied(counts, done[0].absent, tallies)),
            "tallied": tuple(tallies),
            "extras": extras,
            "passes": passes,
            "budget_used": max(used, default=None),
        }
    )


def _chosen(choice: NDArray[np.int64], records: Sequence[Record], parts: int, evidence: Evidence) -> Tallies:
    """Return what was tallied under the chosen attack of each image: the families that all the attacks have.

    None where one of the attacks is an ensemble, whose parts are not tallied one by one.

    Args:
        choice: (N,) index of the attack of each image.
        records: the attacks.
        parts: number of results that the choice is among.
        evidence: the source of tallies.
    """
    if parts != len(records):
        return {}
    found = [evidence.tallies(record.digest) for record in records]
    shared = [family for family in found[0] if all(family in own for own in found)]
    images = np.arange(len(choice))
    return {family: np.stack([own[family] for own in found])[choice, images] for family in shared}


def _threat(records: list[Record]) -> RecordedThreat:
    """Return the common threat model: norm, eps and region are None if the attacks differ, access is the strongest."""
    norms, radii = {r.threat.norm for r in records}, {r.threat.eps for r in records}
    access = next(a for a in ("gradients", "logits", "labels", "none") if a in {r.threat.access for r in records})
    regions = {(r.threat.region, r.threat.area) for r in records}
    same = len(norms) == len(radii) == 1
    region, area = regions.pop() if len(regions) == 1 else (None, None)
    return RecordedThreat(
        norm=norms.pop() if same else None,
        eps=radii.pop() if same else None,
        access=access,
        region=region,
        area=area,
    )


def worst_case(counts_by_attack: Sequence[Counts], absent: Absent) -> WorstCase:
    """Return the scores under an attacker who chooses an attack for each image.

    The greedy search starts from the single attack of lowest mIoU. It then goes through the images in order and gives
    each one the attack that lowers the mIoU over all images most. It stops when a whole round changes nothing.

    Args:
        counts_by_attack: an (N, 3, C) int64 array per attack, over the same images in the same order.
        absent: see `statistics.scores`.

    Raises:
        ValueError: no attack is given, or they were not scored on the same pixels.

    Source: Croce et al. 2024 (ECCV), sections 3.5 and 3.6, https://arxiv.org/abs/2306.12941; the bound is ours.
    """
    if not counts_by_attack:
        raise ValueError("the worst case over attacks needs at least one attack")
    shapes = {counts.shape for counts in counts_by_attack}
    if len(shapes) > 1 or any(not np.array_equal(c[:, 2], counts_by_attack[0][:, 2]) for c in counts_by_attack):
        raise ValueError(f"the worst case over attacks needs counts of the same images, got shapes {sorted(shapes)}")
    counts = np.stack(counts_by_attack)
    accuracy = np.stack([image_accuracy(c) for c in counts_by_attack]).min(0)
    worst_right = counts[:, :, 0].sum(2).min(0).sum()
    choice = _greedy(counts, absent)
    chosen = counts[choice, np.arange(counts.shape[1])]
    return WorstCase(
        image_accuracy=100 * float(np.nanmean(accuracy)),
        aacc=100 * float(worst_right / counts[0, :, 2].sum()),
        miou=100 * float(mean_iou(chosen.sum(0), absent)),
        miou_bound=100 * _bound(counts, absent),
        choice=choice,
    )


def _greedy(counts: Counts, absent: Absent) -> NDArray[np.int64]:
    """Return the greedily chosen attack of each image; counts (A, N, 3, C) -> (N,)."""
    best = int(mean_iou(counts.sum(1), absent).argmin())
    choice = np.full(counts.shape[1], best, dtype=np.int64)
    totals = counts[best].sum(0)
    lowest = float(mean_iou(totals, absent))
    changed = True
    while changed:
        changed = False
        for image in range(counts.shape[1]):
            candidates = totals - counts[choice[image], image] + counts[:, image]
            reached = mean_iou(candidates, absent)
            attack = int(reached.argmin())
            if reached[attack] < lowest:
                choice[image], totals, lowest = attack, candidates[attack], float(reached[attack])
                changed = True
    return choice


def _bound(counts: Counts, absent: Absent) -> float:
    """Return a lower bound of the mIoU over all choices of an attack per image; counts (A, N, 3, C).

    The IoU of each class is minimised exactly and by itself; the mean of these minima is at most the minimum of the
    mean. Dinkelbach's iteration finds the lowest ratio of summed intersections to summed unions: in each round every
    image takes the attack with the lowest (intersection - ratio * union). A class without true pixels counts as 0 if
    any attack predicts it somewhere, which can only lower the mean.
    """
    intersection = counts[:, :, 0].astype(np.float64)
    union = (counts[:, :, 1] + counts[:, :, 2] - counts[:, :, 0]).astype(np.float64)
    in_truth = counts[0, :, 2].sum(0) > 0
    predicted = counts[:, :, 1].sum((0, 1)) > 0
    intersection, union = intersection[..., in_truth], union[..., in_truth]
    ratio = np.ones(intersection.shape[-1])
    while True:
        pick = (intersection - ratio * union).argmin(0)[None]
        top = np.take_along_axis(intersection, pick, 0)[0].sum(0)
        lower = top / np.take_along_axis(union, pick, 0)[0].sum(0)
        if (lower >= ratio).all():
            break
        ratio = np.minimum(ratio, lower)
    number = counts.shape[-1] if absent == "zero" else int((in_truth | predicted).sum())
    return float(ratio.sum() / number)
