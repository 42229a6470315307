"""Pixels near the boundaries of classes, counted; `segbench.reports.metrics.boundary` says which.

Distances are those of square neighbourhoods for bands, as in the published code of Boundary IoU, and Euclidean for
outlines. Void pixels are in no band and no outline, and make none. Images of one size are counted together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.evaluation.counting import small, tabled
from segbench.reports.metrics.boundary import DIAGONAL, TOLERANCE, WIDTHS

_RINGS = len(WIDTHS) + 1
"""The narrowest trimap around a pixel, or none."""
_DISK = [
    (down, across)
    for down in range(-TOLERANCE, TOLERANCE + 1)
    for across in range(-TOLERANCE, TOLERANCE + 1)
    if down**2 + across**2 <= TOLERANCE**2
]


@dataclass(frozen=True)
class TrueBands:
    """What the truth alone decides, so that it is worked out once for everything that is scored on an image.

    Labels are C at void pixels, and on an outline also at all other pixels.

    Attributes:
        num_classes: number of classes C.
        labels: true labels (N, H, W), of the smallest type that holds them.
        width: of Boundary IoU's band, in pixels.
        inner: Boundary IoU's bands inside the true classes, (N, H, W) bool.
        ring: the place in `WIDTHS` of the narrowest trimap around a pixel, (N, H, W) uint8; 4 outside of all.
        outline: labels on the outlines of classes, (N, H, W).
        inner_pixels: of each class, (N, C).
        ring_pixels: of each trimap and class, (N, 4, C), without those of narrower trimaps.
        outline_pixels: of each class, (N, C).
    """

    num_classes: int
    labels: Tensor
    width: int
    inner: Tensor
    ring: Tensor
    outline: Tensor
    inner_pixels: Tensor
    ring_pixels: Tensor
    outline_pixels: Tensor


def true_bands(truth: Tensor, num_classes: int, ignore_index: int) -> TrueBands:
    """Find the boundaries in the truth of some images.

    Args:
        truth: true labels (N, H, W).
        num_classes: number of classes C.
        ignore_index: label of void pixels.
    """
    labels = small(truth, truth != ignore_index, num_classes)
    band = max(1, round(DIAGONAL * math.hypot(*labels.shape[1:])))
    near = _near_other(labels, num_classes, {band, *WIDTHS})
    inner = near[band] | _border(labels, band)
    ring = torch.full_like(labels, len(WIDTHS), dtype=torch.uint8)
    for width in reversed(WIDTHS):
        ring -= near[width].to(torch.uint8)
    outline = _outline(labels, num_classes)
    kinds = (ring * 2 + inner) * 2 + (outline != num_classes)
    counts = tabled(labels, kinds, num_classes, 4 * _RINGS).view(len(labels), num_classes, _RINGS, 2, 2)
    return TrueBands(
        num_classes,
        labels,
        band,
        inner,
        ring,
        outline,
        counts[..., 1, :].sum((2, 3)),
        counts[:, :, : len(WIDTHS)].sum((3, 4)).transpose(1, 2),
        counts[..., 1].sum((2, 3)),
    )


def band_counts(preds: Tensor, true: TrueBands) -> Tensor:
    """Count the pixels near boundaries of each image, (N, 19, C).

    Args:
        preds: predicted labels (N, H, W).
        true: the boundaries of the truth.
    """
    classes = true.num_classes
    labels = small(preds, true.labels != classes, classes)
    right = labels == true.labels
    inner = _near_other(labels, classes, {true.width})[true.width] | _border(labels, true.width)
    outline = _outline(labels, classes)
    near_predicted, near_true = _agreeing(true.outline, outline, classes)
    band = inner + (inner & true.inner & right).to(torch.uint8)  # 2 is the intersection of both bands
    surface = (outline != classes) + near_true.to(torch.uint8)  # 2 is near the true outline
    kinds = ((true.ring * 2 + right) * 3 + band) * 3 + surface
    counts = tabled(labels, kinds, classes, 18 * _RINGS).view(len(labels), classes, _RINGS, 2, 3, 3)
    by_band, by_surface = counts.sum((2, 3, 5)), counts.sum((2, 3, 4))
    by_ring = counts[:, :, : len(WIDTHS)].sum((4, 5)).transpose(1, 2)
    rings = torch.stack([by_ring[..., 1], by_ring.sum(3), true.ring_pixels], 2)
    return torch.cat(
        [
            torch.stack([by_band[..., 2], by_band[..., 1:].sum(2), true.inner_pixels], 1),
            rings.cumsum(1).flatten(1, 2),
            true.outline_pixels[:, None],
            tabled(true.outline, near_predicted, classes, 2)[:, None, :, 1],
            torch.stack([by_surface[..., 1:].sum(2), by_surface[..., 2]], 1),
        ],
        1,
    ).to(torch.int32)


def _border(labels: Tensor, width: int) -> Tensor:
    """Return the pixels that are near the border of their image, (H, W) bool."""
    height, across = labels.shape[1:]
    border = torch.ones(height, across, dtype=torch.bool, device=labels.device)
    border[width : height - width, width : across - width] = False
    return border


def _near_other(labels: Tensor, void: int, radii: set[int]) -> dict[int, Tensor]:
    """Return the pixels that have one of another class within a square of side 2 * radius + 1, for each radius.

    A square holds another class where its highest label is another one, or its lowest. Void counts as 0 for both, and
    so do pixels outside of the image.
    """
    valid = labels != void
    both = torch.stack([labels, void - 1 - labels]) * valid
    values, reached, found = both, 0, {}
    for radius in sorted(radii):
        values, reached = _highest(values, radius - reached), radius
        other = values != both
        found[radius] = (other[0] | other[1]) & valid
    return found


def _highest(values: Tensor, radius: int) -> Tensor:
    """Return the highest value in a square around each pixel of (2, N, H, W).

    A window of 2k values is two windows of k side by side, so that a few comparisons make a wide one. The images lie in
    one row of memory with zeros around each: whatever a window takes of another row is dropped at the end.
    """
    padded = F.pad(values, (radius,) * 4)
    row = padded.flatten()
    for stride in (1, padded.shape[-1]):
        side, wanted = 1, 2 * radius + 1
        while side < wanted:
            step = min(side, wanted - side)
            row = torch.maximum(row[: -step * stride], row[step * stride :])
            side += step
    return row.as_strided(values.shape, padded.stride())


def _outline(labels: Tensor, void: int) -> Tensor:
    """Return labels where one of the 4 pixels around is of another class or outside the image; void elsewhere."""
    valid = labels != void
    on = _border(labels, 1).expand_as(labels).clone()
    for axis in (1, 2):
        here, there = slice(0, -1), slice(1, None)
        one, other = ((slice(None),) * axis + (side,) for side in (here, there))
        differ = (labels[one] != labels[other]) & valid[one] & valid[other]
        on[one] |= differ
        on[other] |= differ
    return labels.masked_fill(~on, void)


def _agreeing(one: Tensor, other: Tensor, void: int) -> tuple[Tensor, Tensor]:
    """Return which pixels of each outline have one of the same class on the other within `TOLERANCE`."""
    padded = [F.pad(outline, (TOLERANCE,) * 4, value=void) for outline in (one, other)]
    rows, across = [outline.flatten() for outline in padded], padded[0].shape[-1]
    found = [torch.zeros_like(row, dtype=torch.bool) for row in rows]
    first = TOLERANCE * across + TOLERANCE
    here = slice(first, len(rows[0]) - first)
    for down, right in _DISK:
        step = down * across + right
        there = slice(here.start + step, here.stop + step)
        same = rows[0][here] == rows[1][there]
        found[0][here] |= same
        found[1][there] |= same
    inside = (slice(None), slice(TOLERANCE, -TOLERANCE), slice(TOLERANCE, -TOLERANCE))
    near = [own.view(outline.shape)[inside] for own, outline in zip(found, padded, strict=True)]
    return near[0] & (one != void), near[1] & (other != void)
