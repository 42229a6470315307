"""Descent on the margins of the true class, from a sum of margins to a count of right pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segbench.attacks.tools.losses import input_gradient, right_pixels, soft_margin
from segbench.attacks.tools.projections import project, step


def margin_descent(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    start: Tensor,
    *,
    eps: float,
    steps: int,
    first: float,
    widths: tuple[float, float],
    balance: float = 0.0,
    ignore_index: int = 255,
) -> Tensor:
    """Take sign steps that lower the margins; an image is left alone as soon as no pixel of it is right.

    It costs steps + 1 forward passes: the last iterate is looked at too.

    Args:
        model: network, images -> logits.
        images: clean images, the centres of the balls, (N, 3, H, W).
        masks: (N, H, W).
        start: first iterate, inside the balls, (N, 3, H, W).
        eps: L_inf radius of the ball, in [0, 1] units.
        steps: number of steps.
        first: size of the first step, as a multiple of eps; it falls linearly to zero.
        widths: width of the margin loss at the first and at the last step (see `tools.losses.soft_margin`); it falls
            geometrically.
        balance: a pixel weighs as many times as its class has pixels in the image, to the power of -balance.
        ignore_index: label of void pixels.
    """
    adversarial = start.clone()
    weights = class_weights(masks, balance, ignore_index=ignore_index)
    running = torch.arange(len(images), device=images.device)
    for t in range(steps):
        now, labels, weight = adversarial[running], masks[running], weights[running]
        width = widths[0] * (widths[1] / widths[0]) ** (t / max(steps - 1, 1))

        def loss(logits: Tensor, labels: Tensor, weight: Tensor = weight, width: float = width) -> Tensor:
            return soft_margin(logits, labels, width=width, ignore_index=ignore_index) * weight

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


def class_weights(masks: Tensor, balance: float, *, ignore_index: int = 255) -> Tensor:
    """Return the weight of every pixel, with mean 1 over the valid pixels of an image, (N, H, W) float32.

    Args:
        masks: (N, H, W).
        balance: a pixel weighs as many times as its class has pixels in the image, to the power of -balance.
        ignore_index: label of void pixels.
    """
    weights = torch.zeros(masks.shape, device=masks.device)
    for own, labels in zip(weights, masks, strict=True):
        valid = labels != ignore_index
        if valid.any():
            _, place, counts = labels[valid].unique(return_inverse=True, return_counts=True)
            wanted = counts[place].float() ** -balance
            own[valid] = wanted / wanted.mean()
    return weights
