"""The margin loss of Carlini and Wagner for segmentation, inside an eps ball."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.tools.losses import carlini_wagner, input_gradient, objective, soft_margin, unfooled_pixels
from segbench.attacks.tools.projections import project, step
from segbench.attacks.tools.targets import Target, goal

Optimizer = Literal["sign", "adam"]
BETAS = (0.9, 0.999)
WIDTHS = (3.0, 0.03)
"""Width of the margin loss at the first and at the last step; see `tools.losses.soft_margin`."""


@attack("cw", version=3)
def cw(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float | None = None,
    steps: int = 20,
    kappa: float | None = None,
    optimizer: Optimizer = "sign",
    norm: Norm = "linf",
    target: Target | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """C&W: lowers the margins of the true logit over the other logits inside the eps ball, with sign steps or Adam.

    A pixel with margin m has the loss -m / (|m| + w). The width w falls from 3 to 0.03 times the mean |m| of the image,
    so that the loss changes from a sum of margins to a count of correct pixels. Multiplying all logits by a constant
    changes nothing. Pixels of classes that the network does not know do not enter the mean |m|.

    The attack starts at the clean image. Its step size falls linearly to zero, and every step is projected. It returns
    the iterate of each image with the fewest correct pixels (with a target: the fewest off target), and stops on an
    image as soon as there are none.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of the first step, or Adam's first learning rate, in [0, 1] units; None means 2 eps.
        steps: number of steps.
        kappa: if given, use the published loss f6 in place of the loss above: the sum of margins, each clipped at
            -kappa, in logits.
        optimizer: "sign" (with "l2" and "rms": the normalised gradient) or "adam".
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        target: class or label map (see `tools.targets`) to drive the prediction towards; None drives it away from the
            masks.
        ignore_index: label of void pixels.

    Source: ours, after Carlini and Wagner 2017, f6, https://arxiv.org/abs/1608.04644, and its bounded form in Madry et
        al. 2018, https://arxiv.org/abs/1706.06083.
    Departs from it in: the loss of a pixel is -m / (|m| + w). Pixels that are far out of reach dominate the sum of f6,
        which therefore leaves more pixels correct than BIM with as many passes (the option `kappa` selects f6). The
        change is bounded by eps; the paper adds a distance term and searches over its weight. No definition for
        segmentation with a bound was published, so published results under this name are not comparable.
    """
    labels, targeted = goal(masks, target, ignore_index=ignore_index), target is not None
    first = 2 * eps if alpha is None else alpha
    adversarial, best = images.clone(), images.clone()
    mean, variance = torch.zeros_like(images), torch.zeros_like(images)
    fewest = torch.full_like(masks[:, 0, 0], labels[0].numel())
    running = torch.arange(len(images), device=images.device)
    for t in range(1, steps + 2):
        now = adversarial[running]
        width = WIDTHS[0] * (WIDTHS[1] / WIDTHS[0]) ** ((t - 1) / max(steps - 1, 1))
        margins = partial(soft_margin, width=width) if kappa is None else partial(carlini_wagner, kappa=kappa)
        loss = objective(margins, targeted=targeted, ignore_index=ignore_index)
        if t <= steps:
            gradient, _, logits = input_gradient(model, now, labels[running], loss, ignore_index=ignore_index)
        else:
            with torch.no_grad():
                gradient, logits = torch.zeros_like(now), model(now)
        left = unfooled_pixels(logits, labels[running], targeted=targeted, ignore_index=ignore_index)
        fewer = left <= fewest[running]
        best[running[fewer]] = now[fewer]
        fewest[running[fewer]] = left[fewer]
        unfinished = left > 0
        running, now, gradient = running[unfinished], now[unfinished], gradient[unfinished]
        if not len(running):
            break
        size = first * (1 - (t - 1) / steps)
        if optimizer == "sign":
            change = step(gradient, norm, size)
        else:
            mean[running] = BETAS[0] * mean[running] + (1 - BETAS[0]) * gradient
            variance[running] = BETAS[1] * variance[running] + (1 - BETAS[1]) * gradient.square()
            scale = (variance[running] / (1 - BETAS[1] ** t)).sqrt().clamp_min(1e-12)
            change = size * mean[running] / (1 - BETAS[0] ** t) / scale
        adversarial[running] = project(now + change, images[running], norm, eps)
    return best
