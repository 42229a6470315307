"""Carlini and Wagner's margin loss for segmentation, inside an eps ball."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from attacks.base import Norm, attack
from attacks.losses import carlini_wagner, input_gradient, objective, right_pixels, towards
from attacks.projections import project, step

Optimizer = Literal["sign", "adam"]
BETAS = (0.9, 0.999)


@attack("cw")
def cw(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float = 0.06,
    steps: int = 20,
    kappa: float = 5.0,
    optimizer: Optimizer = "sign",
    norm: Norm = "linf",
    target: int | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """C&W: lowers each pixel's margin of the true logit over the others until it is -kappa, inside the eps ball.

    From the clean image, by sign steps or by Adam, with a step size that falls linearly to zero, projected after each;
    the iterate that leaves the fewest pixels right (with a target: the fewest off target) is kept.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of the first step, or Adam's first learning rate, in [0, 1] units; twice eps works well.
        steps: number of steps.
        kappa: margin by which a pixel must be wrong before it counts no further, in logits.
        optimizer: "sign" (under "l2" and "rms": the normalised gradient) or "adam".
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        target: class to push every valid pixel to; None pushes away from the masks.
        ignore_index: label of void pixels.

    Source: ours, after Carlini and Wagner 2017, f6, https://arxiv.org/abs/1608.04644, and its bounded form in Madry et
        al. 2018, https://arxiv.org/abs/1706.06083.
    Departs from it in: the margin is summed over pixels; bounded by eps in place of a distance term and a search over
        its weight. No definition for segmentation under a bound was published, so that published columns of this name
        are not comparable.
    """
    loss = objective(partial(carlini_wagner, kappa=kappa), target=target, ignore_index=ignore_index)
    labels = masks if target is None else towards(masks, target, ignore_index=ignore_index)
    fewest = torch.full_like(images[:, 0, 0, 0], torch.inf)
    best = adversarial = images
    mean = variance = torch.zeros_like(images)
    for t in range(1, steps + 2):
        if t <= steps:
            gradient, _, logits = input_gradient(model, adversarial, masks, loss, ignore_index=ignore_index)
        else:
            with torch.no_grad():
                logits = model(adversarial)
        right = right_pixels(logits, labels, ignore_index=ignore_index)
        if target is not None:
            right = -right
        fewer = right <= fewest
        best = torch.where(fewer.view(-1, 1, 1, 1), adversarial, best)
        fewest = torch.where(fewer, right.to(fewest), fewest)
        if t > steps:
            break
        size = alpha * (1 - (t - 1) / steps)
        if optimizer == "sign":
            change = step(gradient, norm, size)
        else:
            mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient
            variance = BETAS[1] * variance + (1 - BETAS[1]) * gradient.square()
            scale = (variance / (1 - BETAS[1] ** t)).sqrt().clamp_min(1e-12)
            change = size * mean / (1 - BETAS[0] ** t) / scale
        adversarial = project(adversarial + change, images, norm, eps)
    return best
