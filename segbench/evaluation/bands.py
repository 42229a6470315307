"""Pixels near the boundaries of classes, counted; `segbench.reports.metrics.boundary` says which.

Distances are those of square neighbourhoods for bands, as in the published code of Boundary IoU, and Euclidean for
outlines. Void pixels are in no band and no outline, and make none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from segbench.evaluation.counting import counted
from segbench.reports.metrics.boundary import DIAGONAL, TOLERANCE, WIDTHS

_NOTHING = -1
"""Stands for void pixels, and for those that are on no outline."""
_DISK = [
    (down, across)
    for down in range(-TOLERANCE, TOLERANCE + 1)
    for across in range(-TOLERANCE, TOLERANCE + 1)
    if down**2 + across**2 <= TOLERANCE**2
]


@dataclass(frozen=True)
class TrueBands:
    """What the truth alone decides, so that it is worked out once for everything that is scored on an image.

    Attributes:
        num_classes: number of classes C.
        labels: true labels (H, W), int16; -1 where void.
        width: of Boundary IoU's band, in pixels.
        border: pixels within the width of the image's border, (H, W).
        inner: Boundary IoU's bands inside the true classes, (H, W).
        ring: C times the place in `WIDTHS` of the narrowest trimap around a pixel, (H, W) int16; 4 C outside of all.
        outline: labels on the outlines of classes, (H, W) int16; -1 elsewhere.
        inner_pixels: of each class, (C,).
        ring_pixels: of each trimap and class, (4, C), without those of narrower trimaps.
        outline_pixels: of each class, (C,).
    """

    num_classes: int
    labels: Tensor
    width: int
    border: Tensor
    inner: Tensor
    ring: Tensor
    outline: Tensor
    inner_pixels: Tensor
    ring_pixels: Tensor
    outline_pixels: Tensor


def true_bands(truth: Tensor, num_classes: int, ignore_index: int) -> TrueBands:
    """Find the boundaries of one image's truth.

    Args:
        truth: true labels (H, W).
        num_classes: number of classes C.
        ignore_index: label of void pixels.
    """
    labels = torch.where(truth != ignore_index, truth, _NOTHING).to(torch.int16)
    height, width = labels.shape
    band = max(1, round(DIAGONAL * math.hypot(height, width)))
    border = torch.ones_like(labels, dtype=torch.bool)
    border[band : height - band, band : width - band] = False
    inner = (_near_other(labels, band) | border) & (labels != _NOTHING)
    ring = torch.full_like(labels, len(WIDTHS) * num_classes)
    for place in reversed(range(len(WIDTHS))):
        ring[_near_other(labels, WIDTHS[place])] = place * num_classes
    outline = _outline(labels)
    return TrueBands(
        num_classes,
        labels,
        band,
        border,
        inner,
        ring,
        outline,
        _count(labels, inner, num_classes),
        _count_rings(ring, labels, ring >= 0, num_classes),
        _count(outline, outline != _NOTHING, num_classes),
    )


def band_counts(preds: Tensor, true: TrueBands) -> Tensor:
    """Count the pixels of one image near boundaries, (19, C).

    Args:
        preds: predicted labels (H, W).
        true: the boundaries of the truth.
    """
    classes, valid = true.num_classes, true.labels != _NOTHING
    labels = torch.where(valid, preds, _NOTHING).to(torch.int16)
    right = labels == true.labels
    inner = (_near_other(labels, true.width) | true.border) & valid
    bands = [_count(labels, inner & true.inner & right, classes), _count(labels, inner, classes), true.inner_pixels]
    rings = [_count_rings(true.ring, labels, where, classes) for where in (right, valid)]
    trimaps = torch.stack([*rings, true.ring_pixels], 1).cumsum(0).flatten(0, 1)
    outline = _outline(labels)
    near_predicted, near_true = _agreeing(true.outline, outline)
    surfaces = [
        true.outline_pixels,
        _count(true.outline, near_predicted, classes),
        _count(outline, outline != _NOTHING, classes),
        _count(outline, near_true, classes),
    ]
    return torch.cat([torch.stack(bands), trimaps, torch.stack(surfaces)]).to(torch.int32)


def _count(labels: Tensor, where: Tensor, num_classes: int) -> Tensor:
    """Count the labels at some pixels, (C,)."""
    return counted(torch.where(where, labels, num_classes).long(), num_classes)


def _count_rings(ring: Tensor, labels: Tensor, where: Tensor, num_classes: int) -> Tensor:
    """Count the labels at some pixels, ring by ring, (4, C)."""
    outside = len(WIDTHS) * num_classes
    bins = torch.where(where & (ring < outside), ring + labels, outside).long()
    return counted(bins, outside).view(len(WIDTHS), num_classes)


def _near_other(labels: Tensor, radius: int) -> Tensor:
    """Return the pixels that have a pixel of another class within a square of side 2 * radius + 1 around them."""
    filled = torch.where(labels == _NOTHING, torch.iinfo(labels.dtype).max, labels)
    highest = _over_square(labels, radius, torch.maximum, _NOTHING)
    lowest = _over_square(filled, radius, torch.minimum, torch.iinfo(labels.dtype).max)
    return ((highest != labels) | (lowest != labels)) & (labels != _NOTHING)


def _over_square(values: Tensor, radius: int, extreme: Callable[[Tensor, Tensor], Tensor], neutral: int) -> Tensor:
    """Return the extreme value in a square around each pixel.

    A window of 2k values is two windows of k side by side, so that a few comparisons make a wide one.
    """
    for axis in (0, 1):
        edge = values.new_full((radius, values.shape[1]) if axis == 0 else (values.shape[0], radius), neutral)
        values = torch.cat([edge, values, edge], axis)
        side, wanted = 1, 2 * radius + 1
        while side < wanted:
            step = min(side, wanted - side)
            length = values.shape[axis] - step
            values = extreme(values.narrow(axis, 0, length), values.narrow(axis, step, length))
            side += step
    return values


def _outline(labels: Tensor) -> Tensor:
    """Return labels where one of the 4 pixels around is of another class or outside the image; -1 elsewhere."""
    on = torch.ones_like(labels, dtype=torch.bool)
    on[1:-1, 1:-1] = False
    for axis in (0, 1):
        length = labels.shape[axis] - 1
        one, other = labels.narrow(axis, 0, length), labels.narrow(axis, 1, length)
        differ = (one != other) & (one != _NOTHING) & (other != _NOTHING)
        on.narrow(axis, 0, length).logical_or_(differ)
        on.narrow(axis, 1, length).logical_or_(differ)
    return torch.where(on, labels, _NOTHING)


def _agreeing(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pixels of each outline have one of the same class on the other within `TOLERANCE`."""
    height, width = one.shape
    found = torch.zeros_like(one, dtype=torch.bool), torch.zeros_like(one, dtype=torch.bool)
    for down, across in _DISK:
        if abs(down) >= height or abs(across) >= width:
            continue
        here = slice(max(0, -down), height - max(0, down)), slice(max(0, -across), width - max(0, across))
        there = slice(max(0, down), height - max(0, -down)), slice(max(0, across), width - max(0, -across))
        same = one[here] == other[there]
        found[0][here].logical_or_(same)
        found[1][there].logical_or_(same)
    return found[0] & (one != _NOTHING), found[1] & (other != _NOTHING)
