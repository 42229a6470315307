"""PAdam: projected Adam on the cross-entropy, or on the loss of CosPGD."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.cospgd import cospgd_loss
from segbench.attacks.tools.ascent import random_start
from segbench.attacks.tools.losses import PixelLoss, cross_entropy, input_gradient, right_pixels
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.projections import project

BETAS = (0.9, 0.999)
STABILISER = 1e-8


@attack("padam")
def padam(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float | None = None,
    steps: int = 200,
    loss: Literal["ce", "cos"] = "ce",
    ignore_index: int = 255,
    generator: Generators = (),
) -> Tensor:
    """PAdam: ascent by Adam with AMSGrad from a random start, projected to the eps ball after every step.

    PAdam-CE (loss="ce") raises the cross-entropy, PAdam-Cos (loss="cos") the loss of CosPGD. The attack returns the
    iterate of each image with the fewest correct pixels, and stops on an image as soon as no pixel of it is correct.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: L_inf radius of the ball, in [0, 1] units.
        alpha: learning rate of Adam, in [0, 1] units; None means eps / 4.
        steps: number of steps.
        loss: "ce", or "cos" (`attacks.cospgd.cospgd_loss`).
        ignore_index: label of void pixels.
        generator: random generators for the start, one per image.

    Source: Halmosi, Mohos and Jelasity 2024, https://arxiv.org/abs/2407.09150, and the authors' code,
        https://github.com/szegedai/Robust-Segmentation-Evaluation; AMSGrad by Reddi et al. 2018,
        https://arxiv.org/abs/1904.09237.
    Departs from it in: the best iterate is returned, not the last one. The released code takes the learning rate as an
        argument; the default is ours. It does not hold the loss of PAdam-Cos, for which this takes that of CosPGD.
    """
    size = eps / 4 if alpha is None else alpha
    raised: PixelLoss = partial(cross_entropy if loss == "ce" else cospgd_loss, ignore_index=ignore_index)
    start = random_start(images, masks, generator, eps=eps, norm="linf", ignore_index=ignore_index)
    return projected_adam(
        model, images, masks, start, raised, eps=eps, alpha=size, steps=steps, ignore_index=ignore_index
    )


def projected_adam(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    start: Tensor,
    raised: PixelLoss,
    *,
    eps: float,
    alpha: float,
    steps: int,
    ignore_index: int = 255,
) -> Tensor:
    """Run projected Adam from a given start; see `padam`.

    Args:
        model: network, images -> logits.
        images: clean images, the centres of the balls, (N, 3, H, W).
        masks: (N, H, W).
        start: first iterate, inside the balls, (N, 3, H, W).
        raised: the loss.
        eps: L_inf radius of the ball, in [0, 1] units.
        alpha: learning rate, in [0, 1] units.
        steps: number of steps.
        ignore_index: label of void pixels.
    """
    adversarial = start.clone()
    best, fewest = adversarial.clone(), torch.full_like(masks[:, 0, 0], masks[0].numel())
    mean, variance, largest = (torch.zeros_like(images) for _ in range(3))
    running = torch.arange(len(images), device=images.device)
    for t in range(1, steps + 2):
        now, labels = adversarial[running], masks[running]
        if t <= steps:
            gradient, _, logits = input_gradient(model, now, labels, raised, ignore_index=ignore_index)
        else:
            with torch.no_grad():
                gradient, logits = torch.zeros_like(now), model(now)
        right = right_pixels(logits, labels, ignore_index=ignore_index)
        fewer = right <= fewest[running]
        best[running[fewer]] = now[fewer]
        fewest[running[fewer]] = right[fewer]
        running, now, gradient = running[right > 0], now[right > 0], gradient[right > 0]
        if not len(running):
            break
        mean[running] = BETAS[0] * mean[running] + (1 - BETAS[0]) * gradient
        variance[running] = BETAS[1] * variance[running] + (1 - BETAS[1]) * gradient.square()
        largest[running] = torch.maximum(largest[running], variance[running])
        scale = (largest[running] / (1 - BETAS[1] ** t)).sqrt() + STABILISER
        change = alpha * mean[running] / (1 - BETAS[0] ** t) / scale
        adversarial[running] = project(now + change, images[running], "linf", eps)
    return best
