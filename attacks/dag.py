"""Dense adversary generation (DAG)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.tools.losses import input_gradient, margin, unfooled_pixels
from segbench.attacks.tools.projections import project
from segbench.attacks.tools.targets import Target, goal


@attack("dag", version=2, minimises="linf")
def dag(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float | None = None,
    alpha: float = 0.002,
    steps: int = 200,
    share: float = 0.99,
    target: Target | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """DAG: small steps that lower the margins of correct pixels, until a share (99 %) of an image's pixels is fooled.

    A step is the gradient divided by its largest absolute value, times alpha. The attack on an image stops once the
    share is reached. It returns the iterate of each image with the most fooled pixels, so that more steps are never
    weaker.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: L_inf radius of the ball, in [0, 1] units; None leaves the change unbounded.
        alpha: largest change of any value in one step, in [0, 1] units; the paper uses 0.5/255.
        steps: maximum number of steps.
        share: share of the valid pixels to fool, in [0, 1].
        target: class or label map (see `tools.targets`) to drive the prediction towards; None drives it away from the
            masks.
        ignore_index: label of void pixels.

    Source: Xie et al. 2017, algorithm 1, https://arxiv.org/abs/1703.08603.
    Departs from it in: the adversarial label of a pixel is the wrong class with the highest logit, or the target; the
        paper draws it at random. The attack stops at 99 % of the pixels; the paper goes on until all are fooled, and
        returns the last iterate. Images stay in [0, 1], and in the eps ball if eps is given.
    """
    radius, targeted = 1.0 if eps is None else eps, target is not None
    labels = goal(masks, target, ignore_index=ignore_index)
    loss = partial(_pending, sign=-1 if targeted else 1, ignore_index=ignore_index)
    valid = (labels != ignore_index).flatten(1).sum(1)
    adversarial, best = images.clone(), images.clone()
    fewest = valid + 1
    running = torch.arange(len(images), device=images.device)
    for taken in range(steps + 1):
        now, wanted = adversarial[running], labels[running]
        if taken < steps:
            gradient, _, logits = input_gradient(model, now, wanted, loss, ignore_index=ignore_index)
        else:
            with torch.no_grad():
                gradient, logits = torch.zeros_like(now), model(now)
        left = unfooled_pixels(logits, wanted, targeted=targeted, ignore_index=ignore_index)
        fewer = left < fewest[running]
        best[running[fewer]] = now[fewer]
        fewest[running[fewer]] = left[fewer]
        unfinished = valid[running] - left < share * valid[running]
        running = running[unfinished]
        if not len(running):
            break
        gradient = gradient[unfinished]
        largest = gradient.flatten(1).abs().amax(1).clamp_min(1e-30).view(-1, 1, 1, 1)
        adversarial[running] = project(now[unfinished] - alpha * gradient / largest, images[running], "linf", radius)
    return best


def _pending(logits: Tensor, labels: Tensor, *, sign: int, ignore_index: int) -> Tensor:
    """Margin of the true class, or minus that of the target class, where it is positive; 0 elsewhere."""
    return (sign * margin(logits, labels, ignore_index=ignore_index)).clamp_min(0)
