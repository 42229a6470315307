"""Projected gradient descent with random starts."""

from __future__ import annotations

from itertools import repeat

import torch
from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.tools.ascent import ascend, last, random_start
from segbench.attacks.tools.losses import cross_entropy, image_mean, objective, unfooled_pixels
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.targets import Target, goal


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
    target: Target | None = None,
    rescale: bool = False,
    ignore_index: int = 255,
    generator: Generators = (),
) -> Tensor:
    """Projected gradient descent: BIM from random starts, the best restart of each image kept.

    The start is uniform in the box of half-width eps (for "l2" and "rms": a random direction, a uniform radius),
    projected to [0, 1]. With several restarts, the last iterate of each is scored by the mean loss over valid pixels
    and the image's best is returned, so that more restarts never give less loss; an image is not started
    again once its kept restart has no pixel left to fool.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps of each restart.
        restarts: number of random starts.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        target: class, or map of labels (see `tools.targets`), to push every valid pixel to, down its cross-entropy;
            None pushes away from the masks.
        rescale: divide each image's logits by their mean gap between the two highest classes, so that a network
            gains nothing by larger or smaller logits (`tools.losses.logit_scale`); restarts are compared without.
        ignore_index: label of void pixels.
        generator: source of the random starts, one per image.

    Source: Madry et al. 2018, https://arxiv.org/abs/1706.06083.
    Departs from it in: `rescale` is ours.
    """
    labels, targeted = goal(masks, target, ignore_index=ignore_index), target is not None
    loss = objective(cross_entropy, targeted=targeted, rescale=rescale, ignore_index=ignore_index)
    score = objective(cross_entropy, targeted=targeted, ignore_index=ignore_index)
    best, best_loss = images.clone(), torch.full_like(images[:, 0, 0, 0], -torch.inf)
    running = torch.arange(len(images), device=images.device)
    for _ in range(restarts):
        centres, wanted = images[running], labels[running]
        generators = [generator[i] for i in running.tolist()]
        start = random_start(centres, wanted, generators, eps=eps, norm=norm, ignore_index=ignore_index)
        steps_up = ascend(
            model,
            centres,
            wanted,
            start,
            repeat(loss, steps),
            eps=eps,
            alpha=alpha,
            norm=norm,
            ignore_index=ignore_index,
        )
        adversarial = last(steps_up, start)
        if restarts == 1:
            return adversarial
        with torch.no_grad():
            logits = model(adversarial)
        losses = image_mean(score(logits, wanted), wanted, ignore_index=ignore_index)
        better = losses > best_loss[running]
        best[running[better]] = adversarial[better]
        best_loss[running[better]] = losses[better]
        unfooled = unfooled_pixels(logits, wanted, targeted=targeted, ignore_index=ignore_index) > 0
        running = running[unfooled | ~better]
        if not len(running):
            break
    return best
