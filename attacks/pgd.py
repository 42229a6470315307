"""Projected gradient descent (PGD) with random starts."""

from __future__ import annotations

from itertools import repeat

import torch
from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.tools.ascent import Keep, ascend, last, random_start
from segbench.attacks.tools.losses import cross_entropy, image_mean, objective, unfooled_pixels
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.targets import Target, goal


@attack("pgd", version=2)
def pgd(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float = 0.01,
    steps: int = 10,
    restarts: int = 1,
    keep: Keep = "accuracy",
    norm: Norm = "linf",
    target: Target | None = None,
    rescale: bool = False,
    ignore_index: int = 255,
    generator: Generators = (),
) -> Tensor:
    """Projected gradient descent: BIM from random starts; returns the best restart of each image.

    With "linf" the start is uniform in [-eps, eps] around the image; with "l2" and "rms" it has a random direction and
    a uniform radius. It is projected to [0, 1]. With several restarts, the last iterates of the restarts are compared
    for each image (see `keep`), so that more restarts are never weaker. An image is not started again once no pixel of
    it is left to fool.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps of each restart.
        restarts: number of random starts.
        keep: the restart that is returned for each image: "accuracy" keeps the one with the fewest pixels left to fool
            (correctly classified pixels; with a target, pixels off target), "loss" the one with the best mean
            cross-entropy.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        target: class or label map (see `tools.targets`) whose cross-entropy the attack lowers; None raises the
            cross-entropy of the masks.
        rescale: divide each image's logits by the mean gap between the two highest ones (`tools.losses.logit_scale`),
            so that multiplying all logits by a constant does not change the attack. Restarts are compared without it.
        ignore_index: label of void pixels.
        generator: random generators for the starts, one per image.

    Source: Madry et al. 2018, https://arxiv.org/abs/1706.06083.
    Departs from it in: restarts are compared by default by the number of pixels that are left, because a larger mean
        cross-entropy does not mean fewer correct pixels; `rescale` is ours.
    """
    labels, targeted = goal(masks, target, ignore_index=ignore_index), target is not None
    loss = objective(cross_entropy, targeted=targeted, rescale=rescale, ignore_index=ignore_index)
    score = objective(cross_entropy, targeted=targeted, ignore_index=ignore_index)
    best, best_score = images.clone(), torch.full_like(images[:, 0, 0, 0], -torch.inf, dtype=torch.double)
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
        left = unfooled_pixels(logits, wanted, targeted=targeted, ignore_index=ignore_index)
        losses = image_mean(score(logits, wanted), wanted, ignore_index=ignore_index)
        scores = (-left if keep == "accuracy" else losses).double()
        better = scores > best_score[running]
        best[running[better]] = adversarial[better]
        best_score[running[better]] = scores[better]
        running = running[(left > 0) | ~better]
        if not len(running):
            break
    return best
