"""SegPGD: pixels weighted by whether they are right, more evenly with every step."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.tools.ascent import ascend, last, random_start
from segbench.attacks.tools.losses import cross_entropy
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.targets import Target, goal


@attack("segpgd")
def segpgd(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float = 0.01,
    steps: int = 10,
    norm: Norm = "linf",
    target: Target | None = None,
    ignore_index: int = 255,
    generator: Generators = (),
) -> Tensor:
    """SegPGD: PGD whose cross-entropy weighs right pixels by 1 - lambda and wrong ones by lambda = (t - 1) / (2 steps).

    The right pixels are taken anew at every step t = 1..steps; the start is uniform in the ball.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        target: class, or map of labels (see `tools.targets`), to push every valid pixel to; pixels not yet there
            weigh 1 - lambda. None pushes away from the masks.
        ignore_index: label of void pixels.
        generator: source of the random start, one per image.

    Source: Gu et al. 2022, algorithm 1 and eq. 4-5, https://arxiv.org/abs/2207.12391; with a target Agnihotri et al.
        2024, https://arxiv.org/abs/2302.02213.
    """
    losses = (
        partial(segpgd_loss, weight=segpgd_weight(t, steps), targeted=target is not None, ignore_index=ignore_index)
        for t in range(1, steps + 1)
    )
    labels = goal(masks, target, ignore_index=ignore_index)
    start = random_start(images, labels, generator, eps=eps, norm=norm, ignore_index=ignore_index)
    return last(
        ascend(model, images, labels, start, losses, eps=eps, alpha=alpha, norm=norm, ignore_index=ignore_index), start
    )


def segpgd_weight(t: int, steps: int) -> float:
    """Return lambda at step t = 1..steps: the weight of wrong pixels, from 0 towards 1/2."""
    return (t - 1) / (2 * steps)


def segpgd_loss(
    logits: Tensor, masks: Tensor, *, weight: float, targeted: bool = False, ignore_index: int = 255
) -> Tensor:
    """Cross-entropy times 1 - weight where the attack has not succeeded yet, and times weight where it has.

    Args:
        logits: (N, C, H, W).
        masks: (N, H, W).
        weight: lambda, in [0, 1/2].
        targeted: the masks are what every pixel shall be given, not what it shall lose.
        ignore_index: label of void pixels.
    """
    pending = (logits.argmax(1) == masks) ^ targeted
    losses = cross_entropy(logits, masks, ignore_index=ignore_index) * (pending * (1 - 2 * weight) + weight)
    return -losses if targeted else losses
