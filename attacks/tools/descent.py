"""Steps that raise the harm to a score, from a sum of margins to a count of pixels."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from segbench.attacks.tools.losses import input_gradient, predicted, right_pixels, typical_margin
from segbench.attacks.tools.projections import project, step


def margin_descent(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    start: Tensor,
    harm: Tensor,
    *,
    eps: float,
    steps: int,
    first: float,
    widths: tuple[float, float],
    masked: bool = False,
    ignore_index: int = 255,
) -> Tensor:
    """Take sign steps that raise the harm done; an image is left alone as soon as no pixel of it is right.

    It costs steps + 1 forward passes: the last iterate is looked at too.

    Args:
        model: network, images -> logits.
        images: clean images, the centres of the balls, (N, 3, H, W).
        masks: (N, H, W).
        start: first iterate, inside the balls, (N, 3, H, W).
        harm: what it is worth that a pixel of one class is called another, (N, C, C); see `soft_harm`.
        eps: L_inf radius of the ball, in [0, 1] units.
        steps: number of steps.
        first: size of the first step, as a multiple of eps; it falls linearly to zero.
        widths: width of `soft_harm` at the first and at the last step; it falls geometrically.
        masked: follow right pixels only.
        ignore_index: label of void pixels.
    """
    adversarial = start.clone()
    running = torch.arange(len(images), device=images.device)
    for t in range(steps):
        now, labels = adversarial[running], masks[running]
        width = widths[0] * (widths[1] / widths[0]) ** (t / max(steps - 1, 1))
        loss = partial(soft_harm, harm=harm[running], width=width, masked=masked, ignore_index=ignore_index)
        gradient, _, logits = input_gradient(model, now, labels, loss, ignore_index=ignore_index)
        unfinished = right_pixels(logits, labels, ignore_index=ignore_index) > 0
        running = running[unfinished]
        if not len(running):
            return adversarial
        change = step(gradient[unfinished], "linf", first * eps * (1 - t / steps))
        adversarial[running] = project(now[unfinished] + change, images[running], "linf", eps)
    with torch.no_grad():
        model(adversarial[running])
    return adversarial


def soft_harm(
    logits: Tensor, masks: Tensor, *, harm: Tensor, width: float, masked: bool = False, ignore_index: int = 255
) -> Tensor:
    """Harm of what each pixel is called, softened: the sum over classes of harm times a / (|a| + w), (N, H, W).

    a is the lead of a class: its logit minus the highest other one, which is positive only for the class that a pixel
    is called. w is `width` times the typical margin of the image, so that the loss goes from a sum of leads to a count
    of pixels as the width falls, and no constant factor of the logits changes it. With -1 on the diagonal of `harm` and
    0 elsewhere it is `tools.losses.soft_margin`.

    Args:
        logits: (N, C, H, W).
        masks: (N, H, W).
        harm: of each image, row: true class, column: class that the pixel is called, (N, C, C).
        width: lead at which the slope is a quarter of the slope at zero, in units of the typical margin.
        masked: wrong pixels count as 0.
        ignore_index: label of void pixels.
    """
    valid = masks != ignore_index
    highest, second = torch.split(logits.topk(2, dim=1).values, 1, dim=1)
    lead = logits - torch.where(logits == highest, second, highest)
    typical = typical_margin(logits, masks, ignore_index=ignore_index).unsqueeze(1)
    own = torch.arange(len(masks), device=masks.device).view(-1, 1, 1)
    weights = harm.to(logits)[own, masks.where(valid, 0)].movedim(-1, 1)
    counted = valid & (predicted(logits) == masks) if masked else valid
    return (weights * lead / (lead.abs() + width * typical)).sum(1) * counted


def pixel_harm(classes: int) -> Tensor:
    """Harm that counts right pixels: -1 for each of them, (C, C)."""
    return -torch.eye(classes, dtype=torch.double)


def iou_harm(class_pixels: Tensor, left: Tensor) -> Tensor:
    """Harm to the mean IoU of a set: its slope where the classes have some IoUs, up to a factor, (..., C, C).

    A right pixel of class c adds 1 / U_c to the sum of the IoUs, where U_c is the union of the class. A pixel that is
    wrongly called d takes IoU_d / U_d away, since it enlarges that union. The unions are taken to be as large as the
    classes in the training split; a class that is not there counts as one of mean size.

    Args:
        class_pixels: number of training pixels of each class; classes beyond its end are not there.
        left: IoU of every class, in [0, 1], (..., C).
    """
    classes = left.shape[-1]
    pixels = torch.zeros(classes, dtype=torch.double, device=left.device)
    pixels[: len(class_pixels)] = class_pixels[:classes].double()
    pixels = torch.where(pixels > 0, pixels, pixels.mean().clamp_min(1))
    worth = pixels.min() / pixels
    own = torch.eye(classes, dtype=torch.bool, device=left.device)
    return torch.where(own, -worth, (left * worth).unsqueeze(-2))


def undirected(harm: Tensor) -> Tensor:
    """Return the harm for which any wrong class is as good as the best one, (C, C)."""
    others = harm.clone().fill_diagonal_(-torch.inf).amax(1)
    return (harm.diagonal() - others).diag()
