"""Projected gradient descent with random starts."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from attacks.base import Generators, Norm, attack, uniform_like
from attacks.losses import cross_entropy, image_mean, input_gradient
from attacks.projections import project, step


@attack("pgd")
def pgd(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float = 0.01,
    steps: int = 10,
    restarts: int = 1,
    norm: Norm = "linf",
    ignore_index: int = 255,
    generator: Generators = (),
) -> Tensor:
    """Projected gradient descent: BIM from random starts, the best restart of each image kept.

    The start is uniform in the box of half-width eps (for "l2" and "rms": a random direction, a uniform radius),
    projected to [0, 1]. With several restarts, the last iterate of each is scored by the mean cross-entropy over
    valid pixels and the image's best is returned, so that more restarts never give less loss.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps of each restart.
        restarts: number of random starts.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        ignore_index: label of void pixels.
        generator: source of the random starts, one per image.

    Source: Madry et al. 2018, https://arxiv.org/abs/1706.06083.
    """
    loss = partial(cross_entropy, ignore_index=ignore_index)
    best, best_loss = images, torch.full_like(images[:, 0, 0, 0], -torch.inf)
    for _ in range(restarts):
        noise = uniform_like(images, generator, -1, 1)
        if norm == "linf":
            noise = noise * eps
        else:
            noise = step(noise, norm, eps) * uniform_like(images[:, :1, :1, :1], generator, 0, 1)
        has_valid = (masks != ignore_index).flatten(1).any(1).view(-1, 1, 1, 1)
        adversarial = project(images + noise * has_valid, images, norm, eps)
        for _ in range(steps):
            gradient, _, _ = input_gradient(model, adversarial, masks, loss, ignore_index=ignore_index)
            adversarial = project(adversarial + step(gradient, norm, alpha), images, norm, eps)
        if restarts == 1:
            return adversarial
        with torch.no_grad():
            losses = image_mean(loss(model(adversarial), masks), masks, ignore_index=ignore_index)
        better = losses > best_loss
        best = torch.where(better.view(-1, 1, 1, 1), adversarial, best)
        best_loss = torch.where(better, losses, best_loss)
    return best
