"""The best candidates of each image so far, by three scores, whatever attack makes them."""

from __future__ import annotations

import torch
from torch import Tensor

from segbench.attacks.tools.losses import predicted, right_pixels
from segbench.attacks.tools.watch import Candidates


class Keeper:
    """Keeps three candidates of each image: with the fewest right pixels, the most harm, and the lowest mean IoU.

    Args:
        images: clean images, (N, 3, H, W).
        logits: of the clean images, (N, C, H, W).
        masks: (N, H, W).
        harm: what it is worth that a pixel of one class is called another, (C, C); see `tools.descent.iou_harm`.
        ignore_index: label of void pixels.

    Attributes:
        passes: forward passes of each image so far, (N,).
        right: fewest right pixels of each image so far, (N,) int64.
        harm: most harm to each image so far, as a share of what its right pixels are worth, (N,) float64.
        iou: lowest mean IoU of each image so far, over the classes of its mask and prediction, (N,).
        left: IoU of each class in the candidate with the most harm; of a class that is not in the mask, the mean of
            those that are, (N, C).
        by_pixels: candidates with the fewest right pixels, (N, 3, H, W).
        by_harm: candidates with the most harm, (N, 3, H, W).
        by_iou: candidates with the lowest mean IoU, (N, 3, H, W).
    """

    def __init__(self, images: Tensor, logits: Tensor, masks: Tensor, harm: Tensor, *, ignore_index: int) -> None:
        self.masks, self.ignore_index = masks, ignore_index
        self.worth = harm.to(masks.device)
        self.passes = torch.ones_like(masks[:, 0, 0])
        self.right, self.harm, self.iou, self.left = self._scores(logits, masks)
        self.by_pixels, self.by_harm, self.by_iou = images.clone(), images.clone(), images.clone()

    def see(self, candidates: Candidates) -> None:
        """Take note of the candidates of one forward pass; each image has one of them at most."""
        images, logits, own, inside = candidates
        self.passes += torch.bincount(own, minlength=len(self.passes))
        right, harm, iou, left = self._scores(logits, self.masks[own])
        more = inside & (harm > self.harm[own])
        self.left[own[more]] = left[more]
        for better, values, best, kept in (
            (right < self.right[own], right, self.right, self.by_pixels),
            (more, harm, self.harm, self.by_harm),
            (iou < self.iou[own], iou, self.iou, self.by_iou),
        ):
            rows = (inside & better).nonzero().flatten()
            best[own[rows]] = values[rows]
            kept[own[rows]] = images[rows]

    def _scores(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return right pixels, harm and mean IoU of some candidates, (K,) each, and what is left of classes, (K, C)."""
        valid = (masks != self.ignore_index) & (masks < len(self.worth))
        labels, preds = masks.where(valid, 0), predicted(logits)
        done, most = ((self.worth[labels, called] * valid).flatten(1).sum(1) for called in (preds, labels))
        right = right_pixels(logits, masks, ignore_index=self.ignore_index)
        both, chosen, true = class_counts(logits, masks, ignore_index=self.ignore_index)
        union = chosen + true - both
        ious = both / union.clamp_min(1)
        left = torch.where(true > 0, ious, _mean(ious, true > 0).unsqueeze(1))
        return right, -done / most.clamp_max(-1e-12), _mean(ious, union > 0), left


def class_counts(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> tuple[Tensor, Tensor, Tensor]:
    """Number of right, of predicted and of true pixels of each class in each image, (N, C) float64 each.

    Args:
        logits: (N, C, H, W).
        masks: (N, H, W).
        ignore_index: label of void pixels.
    """
    count, classes = logits.shape[:2]
    valid = (masks != ignore_index) & (masks < classes)
    row = torch.arange(count, device=masks.device).view(-1, 1, 1) * classes
    preds = predicted(logits)

    def counted(labels: Tensor, where: Tensor) -> Tensor:
        return torch.bincount((row + labels)[where], minlength=count * classes).view(count, classes).double()

    return counted(masks, valid & (preds == masks)), counted(preds, valid), counted(masks, valid)


def _mean(ious: Tensor, present: Tensor) -> Tensor:
    """Mean over the classes that are present in each image, (N,); 0 where none is."""
    return (ious * present).sum(1) / present.sum(1).clamp_min(1)
