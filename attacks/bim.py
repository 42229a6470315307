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
    """Basic iterative method: gradient ascent on the cross-entropy in steps of size alpha, from the clean image.

    With "linf" a step follows the sign of the gradient; with "l2" and "rms" it follows the gradient divided by its
    norm, per image. If `steps * alpha < eps`, the attack cannot use its whole budget.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps.
        norm: "linf", "l2" (Euclidean norm of the image's change) or "rms" (the L2 norm divided by sqrt(3HW)).
        target: class or label map (see `tools.targets`) whose cross-entropy the attack lowers; None raises the
            cross-entropy of the masks.
        rescale: divide each image's logits by the mean gap between the two highest ones (`tools.losses.logit_scale`),
            so that multiplying all logits by a constant does not change the attack.
        ignore_index: label of void pixels.

    Source: Kurakin et al. 2016, https://arxiv.org/abs/1607.02533; Xu et al. 2021, eq. 2.
    Departs from it in: the loss is a mean over each image, not over the batch, which changes neither the sign nor the
        direction of its gradient; `rescale` is ours.
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
