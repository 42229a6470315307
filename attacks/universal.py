"""Universal perturbation: the same perturbation for all images of a split."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segbench.attacks.base import Batches, Norm, attack
from segbench.attacks.tools.losses import cross_entropy, input_gradient, objective
from segbench.attacks.tools.projections import project, shrink, step
from segbench.attacks.tools.targets import Target, goal


def fit_universal(
    model: nn.Module,
    batches: Batches,
    *,
    eps: float,
    alpha: float,
    epochs: int,
    norm: Norm,
    target: Target | None,
    ignore_index: int,
) -> Tensor:
    """Compute the perturbation by projected gradient ascent, one step per batch; see `universal`.

    Args:
        model: network, images -> logits.
        batches: pairs of images (N, 3, H, W) in [0, 1] and masks (N, H, W), all of the same height and width.
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        epochs: passes through the batches.
        norm: "linf", "l2" or "rms".
        target: class or label map, or None.
        ignore_index: label of void pixels.

    Returns:
        The perturbation, (3, H, W).
    """
    loss = objective(cross_entropy, targeted=target is not None, ignore_index=ignore_index)
    perturbation: Tensor | None = None
    for _ in range(epochs):
        for images, masks in batches:
            if perturbation is None:
                perturbation = torch.zeros_like(images[0])
            _check_size(perturbation, images)
            attacked = (images + perturbation).clamp(0, 1)
            labels = goal(masks, target, ignore_index=ignore_index)
            gradient, _, _ = input_gradient(model, attacked, labels, loss, ignore_index=ignore_index)
            moved = perturbation + step(gradient.sum(0, keepdim=True), norm, alpha)
            perturbation = shrink(moved, norm, eps)[0]
    if perturbation is None:
        raise ValueError("universal needs at least one training batch to fit its perturbation, got none")
    return perturbation


@attack("universal", fit=fit_universal)
def universal(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float = 0.003,
    epochs: int = 5,
    norm: Norm = "linf",
    target: Target | None = None,
    ignore_index: int = 255,
    perturbation: Tensor | None = None,
) -> Tensor:
    """Universal perturbation: one perturbation for all images, fitted on the training split.

    `fit` starts at zero and takes one step of size alpha per training batch, along the gradient of the cross-entropy
    summed over the batch.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1], of the same size as the training images.
        masks: (N, H, W); an image without a valid pixel is returned unchanged, otherwise unused.
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        epochs: passes through the training batches.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        target: class or label map (see `tools.targets`) to drive the prediction towards; None drives it away from the
            masks.
        ignore_index: label of void pixels.
        perturbation: (3, H, W), the result of `fit`.

    Source: Metzen et al. 2017, https://arxiv.org/abs/1704.05712.
    Departs from it in: one step per batch, where the paper takes one per pass through the split; untargeted by default;
        the perturbation is not tiled periodically.
    """
    if perturbation is None:
        raise ValueError(
            "universal needs a perturbation, which is fitted on training batches first: "
            "bound = universal.bind(eps=...); perturbation = bound.fit(model, batches); "
            "bound(model, images, masks, perturbation=perturbation)"
        )
    _check_size(perturbation, images)
    has_valid = (masks != ignore_index).flatten(1).any(1).view(-1, 1, 1, 1)
    return project(images + perturbation.to(images) * has_valid, images, norm, eps)


def _check_size(perturbation: Tensor, images: Tensor) -> None:
    if perturbation.shape != images.shape[1:]:
        raise ValueError(
            f"universal needs images of one size: the perturbation is {tuple(perturbation.shape[1:])}, "
            f"these images are {tuple(images.shape[2:])}; resize them, or use a protocol with fixed-size crops"
        )
