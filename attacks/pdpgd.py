"""PDPGD: primal-dual proximal gradient descent for the smallest L_inf change that fools nearly all pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.almaprox import proximal_linf
from segbench.attacks.base import attack
from segbench.attacks.tools.losses import margin, predicted
from segbench.attacks.tools.projections import project

BETAS = (0.9, 0.999)
STABILISER = 1e-8
LAST_STEP = 0.01
"""Final step size as a share of alpha."""
DUAL_STEP, LAST_DUAL_STEP = 0.1, 0.1
"""First step size of the logarithms of the multipliers, and the last one as a share of it."""
SMOOTHING = 0.9
"""Smoothing factor of the multipliers."""
LEAST = 1e-12
"""Smallest multiplier before they are normalised; its inverse is the largest."""
PROXIMAL_STEPS, CONVERGED = 5, 0.01
"""Most iterations of the proximal step, and the relative change of an image at which they end."""


@attack("pdpgd", version=2, minimises="linf")
def pdpgd(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float | None = None,
    alpha: float = 0.1,
    steps: int = 500,
    share: float = 0.99,
    ignore_index: int = 255,
) -> Tensor:
    """PDPGD: searches the smallest L_inf change that fools a share (99 %) of an image's pixels.

    Every pixel has a constraint (margin of the true logit < 0) with a multiplier. The multipliers of an image and the
    weight of the norm sum to 1. A step descends on the softplus of the margins with Adam, followed by a few iterations
    towards the proximal step of the L_inf norm and the box in Adam's metric; then the multipliers of correct pixels
    rise and those of wrong pixels fall. An image that never reaches the share keeps the iterate with the most wrong
    pixels. The iterations end early on purpose: Adam's metric is so uneven that the exact proximal step takes back
    most of the change, and fewer images reach the share.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: L_inf radius to which every iterate is clipped, in [0, 1] units; the result is then the iterate with the
            most wrong pixels. None does not clip, so that the distance of the images is the result.
        alpha: initial step size of the images; it falls to a hundredth.
        steps: number of steps.
        share: share of the valid pixels to fool, in [0, 1].
        ignore_index: label of void pixels.

    Source: Matyasko and Chau 2021, https://arxiv.org/abs/2106.01538, adapted to segmentation by Rony et al. 2023,
        https://arxiv.org/abs/2206.07179, with the constants of its released code,
        https://github.com/jeromerony/adversarial-library.
    Departs from it in: an iteration of the proximal step takes norm and box together, not one after the other.
    """
    valid = masks != ignore_index
    count = valid.flatten(1).sum(1)
    change, mean, variance = (torch.zeros_like(images) for _ in range(3))
    start = -count.clamp_min(1).double().log().view(-1, 1, 1)
    logarithms = start.expand(masks.shape).masked_fill(~valid, -torch.inf)
    weights = _normalised(logarithms)
    best, best_distance = images, torch.full_like(images[:, 0, 0, 0], torch.inf)
    best_share = torch.zeros_like(best_distance)
    found = torch.zeros_like(count, dtype=torch.bool)
    for i in range(steps):
        now = (images + change).requires_grad_()
        logits = model(now)
        wrong = (predicted(logits) != masks) & valid
        reached = torch.where(count > 0, wrong.flatten(1).sum(1) / count.clamp_min(1), 1.0)
        distance = change.flatten(1).abs().amax(1)
        success = reached >= share
        better = reached >= best_share
        if eps is None:
            better = (success & (distance <= best_distance)) | (~found & (reached >= best_share.clamp_max(share)))
        best = torch.where(_column(better), now.detach(), best)
        best_distance = torch.where(better, distance, best_distance)
        best_share = torch.where(better, reached, best_share)
        found = found | success

        if i:
            weights = SMOOTHING * weights + (1 - SMOOTHING) * _normalised(logarithms)
        margins = margin(logits, masks, ignore_index=ignore_index)
        (gradient,) = torch.autograd.grad((F.softplus(margins) * weights.to(margins)).sum(), now)
        mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient
        variance = BETAS[1] * variance + (1 - BETAS[1]) * gradient.square()
        scale = (variance / (1 - BETAS[1] ** (i + 1))).sqrt() + STABILISER
        size = alpha * LAST_STEP ** (i / steps)
        change = change - size * mean / (1 - BETAS[0] ** (i + 1)) / scale
        change = (images + change).clamp(0, 1) - images
        largest = scale.flatten(1).amax(1)
        total = weights.flatten(1).sum(1).clamp_min(LEAST)
        norm_weight = ((1 - total) / total).to(scale) * size / largest
        change = _towards_proximal(change, norm_weight, scale / _column(largest), images)
        if eps is not None:
            change = change.clamp(-eps, eps)

        left = 1 - i / max(steps - 1, 1)
        dual_step = DUAL_STEP * (LAST_DUAL_STEP + (1 - LAST_DUAL_STEP) * left)
        logarithms = logarithms + dual_step * margins.detach().sign()
        logarithms = logarithms.clamp(math.log(LEAST), -math.log(LEAST)).masked_fill(~valid, -torch.inf)
    return best if eps is None else project(best, images, "linf", eps)


def _towards_proximal(change: Tensor, size: Tensor, metric: Tensor, images: Tensor) -> Tensor:
    """Iterate towards the p that minimises size * max|p| + sum(metric * (p - change)^2) / 2 in the box.

    Each iteration takes a gradient step of length 1 on the second term, and the proximal step of the first.

    Args:
        change: (N, 3, H, W).
        size: (N,) weight of the norm.
        metric: (N, 3, H, W), at most 1.
        images: (N, 3, H, W) in [0, 1].
    """
    reached, even = change, torch.ones_like(metric)
    running = torch.ones_like(size, dtype=torch.bool)
    for _ in range(PROXIMAL_STEPS):
        moved = proximal_linf(reached - metric * (reached - change), size, even, images)
        far = (moved - reached).flatten(1).norm(dim=1) >= CONVERGED * moved.flatten(1).norm(dim=1)
        reached = torch.where(_column(running), moved, reached)
        running = running & far
        if not running.any():
            break
    return reached


def _normalised(logarithms: Tensor) -> Tensor:
    """Return multipliers that sum, with the weight of the norm, to 1; (N, H, W)."""
    norm = torch.zeros_like(logarithms[:, :1, 0])
    return torch.cat([norm, logarithms.flatten(1)], 1).softmax(1)[:, 1:].view_as(logarithms)


def _column(per_image: Tensor) -> Tensor:
    return per_image.view(-1, 1, 1, 1)
