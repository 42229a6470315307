"""DeepFool for segmentation, bounded by eps."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.tools.losses import input_gradient, margin, predicted, right_pixels
from segbench.attacks.tools.projections import project

OVERSHOOT = 0.02
CAP = 1.0
"""Largest step, as a multiple of eps."""


@attack("deepfool", version=2)
def deepfool(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    steps: int = 50,
    ignore_index: int = 255,
) -> Tensor:
    """DeepFool: the smallest L_inf steps that bring the mean margin of the correct pixels to zero, inside the eps ball.

    With F the mean over correct pixels of (true logit - highest other logit), a step is 1.02 F / ||grad F||_1 along
    minus the sign of grad F, at most `CAP` times eps, projected to the ball and to [0, 1]. The attack returns the
    iterate of each image with the fewest correct pixels, so that more steps are never weaker. It stops on an image as
    soon as no pixel of it is correct.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: L_inf radius of the ball, in [0, 1] units.
        steps: maximum number of steps.
        ignore_index: label of void pixels.

    Source: ours, after Moosavi-Dezfooli et al. 2016, https://arxiv.org/abs/1511.04599.
    Departs from it in: one step for all correct pixels of an image, towards each pixel's highest other class; the
        overshoot is part of every step; steps and result are bounded by eps; the best iterate is returned, not the
        last one. No definition of DeepFool for segmentation with a bound was published, so published results under this
        name are not comparable.
    """
    adversarial, best = images.clone(), images.clone()
    fewest = torch.full_like(masks[:, 0, 0], masks[0].numel())
    running = torch.arange(len(images), device=images.device)
    loss = partial(_right_margin, ignore_index=ignore_index)
    for taken in range(steps + 1):
        now, labels = adversarial[running], masks[running]
        if taken < steps:
            gradient, means, logits = input_gradient(model, now, labels, loss, ignore_index=ignore_index)
        else:
            with torch.no_grad():
                gradient, means, logits = torch.zeros_like(now), now.new_zeros(len(now)), model(now)
        right = right_pixels(logits, labels, ignore_index=ignore_index)
        fewer = right < fewest[running]
        best[running[fewer]] = now[fewer]
        fewest[running[fewer]] = right[fewer]
        size = means / gradient.flatten(1).abs().sum(1).clamp_min(1e-12)
        size = ((1 + OVERSHOOT) * size).clamp_max(CAP * eps).view(-1, 1, 1, 1)
        unfinished = right > 0
        running = running[unfinished]
        if not len(running):
            break
        moved = (now - size * gradient.sign())[unfinished]
        adversarial[running] = project(moved, images[running], "linf", eps)
    return best


def _right_margin(logits: Tensor, masks: Tensor, *, ignore_index: int) -> Tensor:
    """Margin of the correctly classified pixels, 0 elsewhere."""
    return margin(logits, masks, ignore_index=ignore_index) * (predicted(logits) == masks)
