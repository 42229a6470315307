"""CosPGD: PGD with pixels weighted by the cosine similarity of prediction and label."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import Literal

from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.tools.ascent import ascend, random_start
from segbench.attacks.tools.losses import cross_entropy
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.targets import Target, goal

Activation = Literal["softmax", "sigmoid"]


@attack("cospgd", nested=True)
def cospgd(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float = 0.01,
    steps: int = 10,
    norm: Norm = "linf",
    activation: Activation = "softmax",
    target: Target | None = None,
    ignore_index: int = 255,
    generator: Generators = (),
) -> Iterator[Tensor]:
    """CosPGD: PGD on the cross-entropy, weighted per pixel by the cosine of softmax output and one-hot label.

    The weights are computed at every step and carry no gradient. The start is uniform in the ball.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        activation: "softmax" as in the paper, or "sigmoid" as in some other libraries; applies to the logits in the
            weights.
        target: class or label map (see `tools.targets`) to drive the prediction towards, with weight 1 - cosine; None
            drives the prediction away from the masks.
        ignore_index: label of void pixels.
        generator: random generators for the start, one per image.

    Source: Agnihotri et al. 2024, https://arxiv.org/abs/2302.02213.
    """
    loss = partial(cospgd_loss, activation=activation, targeted=target is not None, ignore_index=ignore_index)
    labels = goal(masks, target, ignore_index=ignore_index)
    start = random_start(images, labels, generator, eps=eps, norm=norm, ignore_index=ignore_index)
    yield from ascend(
        model, images, labels, start, repeat(loss, steps), eps=eps, alpha=alpha, norm=norm, ignore_index=ignore_index
    )


def cospgd_loss(
    logits: Tensor,
    masks: Tensor,
    *,
    activation: Activation = "softmax",
    targeted: bool = False,
    ignore_index: int = 255,
) -> Tensor:
    """Cross-entropy times the detached cosine of activated logits and one-hot label; see `cospgd`.

    Args:
        logits: (N, C, H, W).
        masks: true labels, or those of the target, (N, H, W).
        activation: "softmax" or "sigmoid".
        targeted: the masks are the attack's target; the weight is 1 - cosine and the sign flips.
        ignore_index: label of void pixels.
    """
    scores = logits.detach()
    scores = scores.softmax(1) if activation == "softmax" else scores.sigmoid()
    true = scores.gather(1, masks.where(masks != ignore_index, 0).unsqueeze(1)).squeeze(1)
    cosine: Tensor = true / scores.norm(dim=1).clamp_min(1e-12)
    loss = cross_entropy(logits, masks, ignore_index=ignore_index)
    return -loss * (1 - cosine) if targeted else loss * cosine
