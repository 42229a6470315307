"""The best candidates of each image so far, by right pixels and by classes, whatever attack makes them."""

from __future__ import annotations

import torch
from torch import Tensor

from segbench.attacks.tools.losses import predicted, right_pixels
from segbench.attacks.tools.watch import Candidates


class Keeper:
    """Keeps two candidates of each image: that with the fewest right pixels, and that with the lowest IoU.

    Args:
        images: clean images, which are kept until a better candidate is seen, (N, 3, H, W).
        masks: (N, H, W).
        ignore_index: label of void pixels.

    Attributes:
        passes: forward passes of each image so far, (N,).
        right: fewest right pixels of each image so far, (N,) int64; the number of its pixels if nothing was seen.
        iou: lowest mean IoU of each image so far (see `image_iou`), (N,).
        by_pixels: candidates with the fewest right pixels, (N, 3, H, W).
        by_classes: candidates with the lowest mean IoU, (N, 3, H, W).
    """

    def __init__(self, images: Tensor, masks: Tensor, *, ignore_index: int) -> None:
        self.masks, self.ignore_index = masks, ignore_index
        self.passes = torch.zeros_like(masks[:, 0, 0])
        self.right = torch.full_like(self.passes, masks[0].numel())
        self.iou = torch.full_like(self.passes, torch.inf, dtype=torch.double)
        self.by_pixels, self.by_classes = images.clone(), images.clone()

    def see(self, candidates: Candidates) -> None:
        """Take note of the candidates of one forward pass; each image has one of them at most."""
        images, logits, own, inside = candidates
        self.passes += torch.bincount(own, minlength=len(self.passes))
        right = right_pixels(logits, self.masks[own], ignore_index=self.ignore_index)
        iou = image_iou(logits, self.masks[own], ignore_index=self.ignore_index)
        fewer = (inside & (right < self.right[own])).nonzero().flatten()
        self.right[own[fewer]] = right[fewer]
        self.by_pixels[own[fewer]] = images[fewer]
        lower = (inside & (iou < self.iou[own])).nonzero().flatten()
        self.iou[own[lower]] = iou[lower]
        self.by_classes[own[lower]] = images[lower]


def image_iou(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Mean IoU of each image over the classes of its mask, (N,) float64; 0 for an image without valid pixels.

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

    both, chosen, true = counted(masks, valid & (preds == masks)), counted(preds, valid), counted(masks, valid)
    present = true > 0
    ious = both / (chosen + true - both).clamp_min(1)
    return (ious * present).sum(1) / present.sum(1).clamp_min(1)
