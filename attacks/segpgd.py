"""SegPGD: PGD with different weights for correctly and wrongly classified pixels."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.tools.ascent import ascend, last, random_start
from segbench.attacks.tools.losses import cross_entropy, predicted
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
    """SegPGD: PGD that weighs correct pixels by 1 - lambda and wrong pixels by lambda = (t - 1) / (2 steps) at step t.

    The correctly classified pixels are determined at every step t = 1..steps. The start is uniform in the ball.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        target: class or label map (see `tools.targets`) to drive the prediction towards; pixels that are not predicted
            as the target yet weigh 1 - lambda. None drives the prediction away from the masks.
        ignore_index: label of void pixels.
        generator: random generators for the start, one per image.

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
    """Return lambda at step t = 1..steps: the weight of wrong pixels, which grows from 0 towards 1/2."""
    return (t - 1) / (2 * steps)


def segpgd_loss(
    logits: Tensor, masks: Tensor, *, weight: float, targeted: bool = False, ignore_index: int = 255
) -> Tensor:
    """Cross-entropy times 1 - weight at pixels that are not fooled yet, and times weight at fooled pixels.

    Args:
        logits: (N, C, H, W).
        masks: true labels, or those of the target, (N, H, W).
        weight: lambda, in [0, 1/2].
        targeted: the masks are the attack's target, so that the loss is minimised.
        ignore_index: label of void pixels.
    """
    pending = (predicted(logits) == masks) ^ targeted
    losses = cross_entropy(logits, masks, ignore_index=ignore_index) * (pending * (1 - 2 * weight) + weight)
    return -losses if targeted else losses
