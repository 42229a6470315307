"""Fast gradient sign method."""

from __future__ import annotations

from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.tools.losses import cross_entropy, input_gradient, objective
from segbench.attacks.tools.projections import project, step
from segbench.attacks.tools.targets import Target, goal


@attack("fgsm")
def fgsm(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    norm: Norm = "linf",
    target: Target | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """Fast gradient sign method: one gradient step of size eps on the cross-entropy.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball and size of the step, in [0, 1] units.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        target: class or label map (see `tools.targets`) whose cross-entropy the attack lowers; None raises the
            cross-entropy of the masks.
        ignore_index: label of void pixels.

    Source: Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572; for segmentation, and with a target, Arnab et al.
        2018, https://arxiv.org/abs/1711.09856.
    """
    labels = goal(masks, target, ignore_index=ignore_index)
    loss = objective(cross_entropy, targeted=target is not None, ignore_index=ignore_index)
    gradient, _, _ = input_gradient(model, images, labels, loss, ignore_index=ignore_index)
    return project(images + step(gradient, norm, eps), images, norm, eps)
