"""The best candidates of each image so far, by right pixels and by classes, whatever attack makes them."""

from __future__ import annotations

import torch
from torch import Tensor

from segbench.attacks.tools.descent import class_weights
from segbench.attacks.tools.losses import right_pixels
from segbench.attacks.tools.watch import Candidates


class Keeper:
    """Keeps three candidates of each image: with the fewest right pixels, the lowest IoU, the least balanced share.

    Args:
        images: clean images, which are kept until a better candidate is seen, (N, 3, H, W).
        masks: (N, H, W).
        ignore_index: label of void pixels.
        class_pixels: (C,) number of training pixels of each class; None counts those of the image.

    Attributes:
        passes: forward passes of each image so far, (N,).
        right: fewest right pixels of each image so far, (N,) int64; the number of its pixels if nothing was seen.
        iou: lowest mean IoU of each image so far (see `image_iou`), (N,).
        balanced: least right pixels of each image so far, each in units of the pixels of its class, as a share, (N,).
        by_pixels: candidates with the fewest right pixels, (N, 3, H, W).
        by_classes: candidates with the lowest mean IoU, (N, 3, H, W).
        by_balance: candidates with the least balanced share, (N, 3, H, W).
    """

    def __init__(self, images: Tensor, masks: Tensor, *, ignore_index: int, class_pixels: Tensor | None = None) -> None:
        self.masks, self.ignore_index = masks, ignore_index
        self.passes = torch.zeros_like(masks[:, 0, 0])
        self.right = torch.full_like(self.passes, masks[0].numel())
        self.iou = torch.full_like(self.passes, torch.inf, dtype=torch.double)
        self.weights = class_weights(masks, 1.0, class_pixels, ignore_index=ignore_index)
        self.balanced = torch.full_like(self.iou, torch.inf)
        self.by_pixels, self.by_classes, self.by_balance = images.clone(), images.clone(), images.clone()

    @property
    def scores(self) -> tuple[Tensor, ...]:
        """What the kept candidates are the lowest in, each (N,) float64."""
        return self.right.double(), self.iou, self.balanced

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
        weights = self.weights[own].double()
        share = (weights * (logits.argmax(1) == self.masks[own])).flatten(1).sum(1) / weights.flatten(1).sum(1)
        less = (inside & (share < self.balanced[own])).nonzero().flatten()
        self.balanced[own[less]] = share[less]
        self.by_balance[own[less]] = images[less]


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
    preds = logits.argmax(1)

    def counted(labels: Tensor, where: Tensor) -> Tensor:
        return torch.bincount((row + labels)[where], minlength=count * classes).view(count, classes).double()

    both, predicted, true = counted(masks, valid & (preds == masks)), counted(preds, valid), counted(masks, valid)
    present = true > 0
    ious = both / (predicted + true - both).clamp_min(1)
    return (ious * present).sum(1) / present.sum(1).clamp_min(1)
