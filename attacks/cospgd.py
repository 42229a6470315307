"""CosPGD: pixels weighted by how well their scores agree with their label."""

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
    """CosPGD: PGD whose cross-entropy weighs each pixel by the cosine of its activated logits and one-hot label.

    The weights are taken anew at every step and carry no gradient; the start is uniform in the ball.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        activation: of the logits in the weight: "softmax", or "sigmoid" as some other libraries have it.
        target: class, or map of labels (see `tools.targets`), to push every valid pixel to, with 1 - cosine as
            weight; None pushes away from the masks.
        ignore_index: label of void pixels.
        generator: source of the random start, one per image.

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
        masks: (N, H, W).
        activation: "softmax" or "sigmoid".
        targeted: the masks are what every pixel shall be given, not what it shall lose.
        ignore_index: label of void pixels.
    """
    scores = logits.detach()
    scores = scores.softmax(1) if activation == "softmax" else scores.sigmoid()
    true = scores.gather(1, masks.where(masks != ignore_index, 0).unsqueeze(1)).squeeze(1)
    cosine: Tensor = true / scores.norm(dim=1).clamp_min(1e-12)
    loss = cross_entropy(logits, masks, ignore_index=ignore_index)
    return -loss * (1 - cosine) if targeted else loss * cosine
