"""DeepFool for segmentation, bounded by eps."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.tools.losses import input_gradient, margin, right_pixels
from segbench.attacks.tools.projections import project

OVERSHOOT = 0.02


@attack("deepfool")
def deepfool(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    steps: int = 50,
    ignore_index: int = 255,
) -> Tensor:
    """DeepFool: least L_inf steps that close the mean margin of the still right pixels, until none is left.

    With F the mean over right pixels of (true logit - highest other logit), a step is 1.02 F / ||grad F||_1 down the
    sign of grad F, projected to the ball and [0, 1]. An image stops when none of its pixels is right.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball under "linf", in [0, 1] units.
        steps: largest number of steps.
        ignore_index: label of void pixels.

    Source: ours, after Moosavi-Dezfooli et al. 2016, https://arxiv.org/abs/1511.04599.
    Departs from it in: one step for all right pixels of an image, towards each one's highest other class; the overshoot
        is part of every step; bounded by eps. No published definition of DeepFool on segmentation with a bound exists,
        so that published columns of this name are not comparable.
    """
    adversarial = images.clone()
    running = torch.arange(len(images), device=images.device)
    for _ in range(steps):
        now, labels = adversarial[running], masks[running]
        gradient, means, logits = input_gradient(
            model, now, labels, partial(_right_margin, ignore_index=ignore_index), ignore_index=ignore_index
        )
        size = means / gradient.flatten(1).abs().sum(1).clamp_min(1e-12)
        moved = now - (1 + OVERSHOOT) * size.view(-1, 1, 1, 1) * gradient.sign()
        unfinished = right_pixels(logits, labels, ignore_index=ignore_index) > 0
        running = running[unfinished]
        if not len(running):
            break
        adversarial[running] = project(moved[unfinished], images[running], "linf", eps)
    return adversarial


def _right_margin(logits: Tensor, masks: Tensor, *, ignore_index: int) -> Tensor:
    """Margin of the pixels that are right, 0 elsewhere."""
    return margin(logits, masks, ignore_index=ignore_index) * (logits.argmax(1) == masks)
