"""Basic iterative method (BIM)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.tools.ascent import ascend
from segbench.attacks.tools.losses import cross_entropy, objective
from segbench.attacks.tools.targets import Target, goal


@attack("bim", nested=True)
def bim(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float = 0.01,
    steps: int = 6,
    norm: Norm = "linf",
    target: Target | None = None,
    rescale: bool = False,
    ignore_index: int = 255,
) -> Iterator[Tensor]:
    """Basic iterative method: steps of size alpha up the cross-entropy, from the clean image.

    With `steps * alpha < eps` the budget is not used up. Under "linf" a step is the sign of the gradient, under
    "l2" and "rms" the gradient divided by its norm, per image.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps.
        norm: "linf", "l2" (Euclidean norm of an image's change) or "rms" (the same divided by sqrt(3HW)).
        target: class, or map of labels (see `tools.targets`), to push every valid pixel to, down its cross-entropy;
            None pushes away from the masks.
        rescale: divide each image's logits by their mean gap between the two highest classes, so that a network
            gains nothing by larger or smaller logits (`tools.losses.logit_scale`).
        ignore_index: label of void pixels.

    Source: Kurakin et al. 2016, https://arxiv.org/abs/1607.02533; Xu et al. 2021, eq. 2.
    Departs from it in: the gradient is that of each image's own mean, which changes no sign and no direction;
        `rescale` is ours.
    """
    loss = objective(cross_entropy, targeted=target is not None, rescale=rescale, ignore_index=ignore_index)
    yield from ascend(
        model,
        images,
        goal(masks, target, ignore_index=ignore_index),
        images,
        repeat(loss, steps),
        eps=eps,
        alpha=alpha,
        norm=norm,
        ignore_index=ignore_index,
    )
