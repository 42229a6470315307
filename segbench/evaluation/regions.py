"""What is counted beside the pixels of each class where an attack keeps to a region, or hides objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.attacks.base import BoundAttack
from segbench.evaluation.objects import Objects, objects_of
from segbench.protocols.base import Crops, EvaluationProtocol
from segbench.reports.metrics.objects import LIMITS, SIZES
from segbench.reports.statistics import Absent, Counts, mean_iou

STILL = (10, 25, 50)
"""Per cent: an object is hidden if less of it is still found."""
TRACE = 1e-3
"""Share of a patch's pixel in a pixel of the label map from which on that one counts as the patch's."""


@dataclass(frozen=True)
class Limited:
    """What of one image an attack aims at, at the size of its label map.

    Attributes:
        own: pixels that the second score leaves out, (H, W) bool: those of the patch, or of the objects to hide.
        objects: the objects to hide; None for a patch.
        clean: labels that the network predicts on the clean image, (H, W); None for a patch.
    """

    own: Tensor
    objects: Objects | None = None
    clean: Tensor | None = None


def limited(
    attack: BoundAttack,
    protocol: EvaluationProtocol,
    crops: Crops,
    allowed: Tensor,
    clean: Tensor | None,
    ignore_index: int,
) -> Limited:
    """Return what of one image an attack aims at.

    Args:
        attack: an attack with a region.
        protocol: how images are scored.
        crops: the pieces of the image.
        allowed: pixels of the pieces that the attack may change, (K, h, w).
        clean: labels that are predicted on the clean image, (H, W), for an attack that hides objects.
        ignore_index: label of void pixels.
    """
    numbers = attack.hidden(crops.truth[None], ignore_index=ignore_index)
    if numbers is None or clean is None:
        share = allowed.float()
        return Limited(protocol.merge(torch.stack([torch.full_like(share, TRACE), share], 1), crops) == 1)
    numbers = numbers[0].to(clean.device)
    return Limited(numbers > 0, objects_of(numbers[None], 0), clean)


def hidden_counts(preds: Tensor, truth: Tensor, limit: Limited) -> NDArray[np.int64]:
    """Count the objects that are found on the clean image, and those of them that are hidden, by size, (4, 3).

    An object is found if at least half of its pixels are right. The further rows count the objects of which fewer than
    10, 25 and 50 % of the pixels are still right.

    Args:
        preds: predicted labels (H, W).
        truth: true labels (H, W).
        limit: the objects to hide.
    """
    counts = np.zeros((1 + len(STILL), len(SIZES)), dtype=np.int64)
    if limit.objects is None or limit.clean is None:
        return counts
    numbers, pixels = limit.objects.numbers[0], limit.objects.pixels

    def right(labels: Tensor) -> NDArray[np.int64]:
        here = numbers[(labels == truth) & (numbers > 0)]
        found: NDArray[np.int64] = torch.bincount(here, minlength=len(pixels) + 1)[1:].cpu().numpy()
        return found

    before, after = right(limit.clean), right(preds)
    size, found = np.digitize(pixels, LIMITS), 2 * before >= pixels
    np.add.at(counts[0], size, found)
    for row, still in enumerate(STILL, 1):
        np.add.at(counts[row], size, found & (100 * after < still * pixels))
    return counts


def region_extras(
    outside: Sequence[Counts], hidden: Sequence[NDArray[Any]], absent: Absent
) -> dict[str, float | str | None]:
    """Return the further numbers of an attack with a region, in per cent.

    `miou_outside_patch`, or `miou_outside_objects`, is the mIoU without the pixels of the patch, or of the objects to
    hide; None where no pixel is left. `objects` is the number of objects that are found on clean images, and
    `hidden_10` the share of them of which less than 10 % is still found; "hidden_10.small" is that of small ones, None
    where there is none.

    Args:
        outside: per image (3, C) pixels of every class, without those of the patch or the objects.
        hidden: per image the counts of `hidden_counts`; empty for a patch.
        absent: what a class counts that is neither true nor predicted.
    """
    if not outside:
        return {}
    left = np.sum(outside, axis=0)
    miou = 100 * float(mean_iou(left, absent)) if left[2].any() else None
    if not hidden:
        return {"miou_outside_patch": miou}
    found: dict[str, float | str | None] = {"miou_outside_objects": miou}
    counts = np.sum(hidden, axis=0)
    columns = {"": counts.sum(1), **{f".{size}": counts[:, place] for place, size in enumerate(SIZES)}}
    for name, column in columns.items():
        found[f"objects{name}"] = float(column[0])
        for row, still in enumerate(STILL, 1):
            found[f"hidden_{still}{name}"] = 100 * float(column[row] / column[0]) if column[0] else None
    return found
