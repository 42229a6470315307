"""Scores from confusion counts per image.

`counts` are int64, (N, 3, C): for every image the intersection, the predicted and the true pixels of every class. Void
pixels are counted nowhere. Neither torch nor a network is needed, so that records can be scored anew at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.records import Scores
from reports.statistics import RESAMPLES, Absent, Counts, Floats, class_iou, interval, mean_iou, paired_bootstrap

__all__ = ["WorstCase", "class_iou", "image_accuracy", "miou", "paired_bootstrap", "scores", "worst_case"]


@dataclass(frozen=True)
class WorstCase:
    """What an attacker reaches who may choose an attack for each image, in per cent.

    Attributes:
        image_accuracy: mean over images of the least pixel accuracy that an attack reaches.
        aacc: share of all valid pixels that are right when every image meets its worst attack.
        miou: mIoU of the greedy choice of an attack per image; an attacker does reach it.
        miou_bound: no choice of an attack per image gives an mIoU below it.
        choice: (N,) index of the attack that the greedy search chose for each image.
    """

    image_accuracy: float
    aacc: float
    miou: float
    miou_bound: float
    choice: NDArray[np.int64]


def scores(counts: Counts, absent: Absent, *, resamples: int = RESAMPLES, seed: int = 0) -> Scores:
    """Score all images together, in per cent, with a 95 % bootstrap interval of mIoU over images.

    Args:
        counts: (N, 3, C) int64.
        absent: a class in neither truth nor prediction is left out of the means ("skip") or counts 0 ("zero");
            the mean accuracy treats a class without true pixels likewise.
        resamples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Raises:
        ValueError: no pixel is valid, so that there is nothing to score.
    """
    totals = counts.sum(0)
    intersection, _, true = totals.astype(np.float64)
    if not true.any():
        raise ValueError("all pixels of all images are void: there is nothing to score")
    accuracy = np.divide(intersection, true, out=np.zeros_like(true), where=true > 0)
    macc = accuracy[true > 0].mean() if absent == "skip" else accuracy.mean()
    bootstrap = interval(counts, absent, resamples=resamples, seed=seed)
    return Scores(
        miou=bootstrap.value,
        macc=100 * float(macc),
        aacc=100 * float(intersection.sum() / true.sum()),
        class_iou=tuple(None if np.isnan(iou) else 100 * float(iou) for iou in class_iou(totals, "skip")),
        miou_low=bootstrap.low,
        miou_high=bootstrap.high,
    )


def miou(totals: Counts, absent: Absent) -> float:
    """Return the mean IoU over classes, in per cent.

    Args:
        totals: (3, C) counts, summed over images.
        absent: see `scores`.
    """
    return 100 * float(mean_iou(totals, absent))


def image_accuracy(counts: Counts) -> Floats:
    """Return the share of right pixels of every image, (N,) in [0, 1]; NaN where all pixels are void.

    Args:
        counts: (N, 3, C) int64.
    """
    right, valid = counts[:, 0].sum(1).astype(np.float64), counts[:, 2].sum(1)
    accuracy: Floats = np.divide(right, valid, out=np.full(len(counts), np.nan), where=valid > 0)
    return accuracy


def worst_case(counts_by_attack: Sequence[Counts], absent: Absent) -> WorstCase:
    """Aggregate attacks as one attacker who chooses an attack for each image.

    The greedy search starts from the single attack of least mIoU, then goes through the images in order and gives each
    the attack that lowers the mIoU of all images most, until a whole round changes nothing.

    Args:
        counts_by_attack: an (N, 3, C) int64 array per attack, over the same images in the same order.
        absent: see `scores`.

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
        miou=miou(chosen.sum(0), absent),
        miou_bound=100 * _bound(counts, absent),
        choice=choice,
    )


def _greedy(counts: Counts, absent: Absent) -> NDArray[np.int64]:
    """Choose an attack per image; counts (A, N, 3, C) -> (N,)."""
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

    Each class by itself is minimised exactly: Dinkelbach's iteration for the least ratio of summed intersections to
    summed unions, in which every image takes the attack of least (intersection - ratio * union). A mean of minima is
    at most the minimum of means. A class without true pixels counts as a 0 in the mean as soon as one attack predicts
    it somewhere, which only lowers the mean.
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
