"""Per-pixel losses that attacks raise, and the input gradient of their per-image mean.

Every loss takes logits (N, C, H, W) and masks (N, H, W) and returns (N, H, W) with exact zeros at void pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PixelLoss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Softmax cross-entropy of every pixel, (N, H, W)."""
    return F.cross_entropy(logits, masks, ignore_index=ignore_index, reduction="none")


def image_mean(pixel_values: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Mean over the valid pixels of each image, (N,); 0 where an image has none."""
    valid = masks != ignore_index
    return (pixel_values * valid).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)


def input_gradient(
    model: nn.Module, images: Tensor, masks: Tensor, loss: PixelLoss, *, ignore_index: int = 255
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of each image's mean loss with respect to that image alone.

    Only input gradients are made: the parameters receive none. The per-image means are summed, so an image's
    gradient does not depend on the rest of its batch.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        loss: per-pixel loss of logits and masks.
        ignore_index: label of void pixels.

    Returns:
        The gradient (N, 3, H, W), the per-image losses (N,) and the logits (N, C, H, W), all detached.
    """
    images = images.detach().requires_grad_()
    logits = model(images)
    losses = image_mean(loss(logits, masks), masks, ignore_index=ignore_index)
    (gradient,) = torch.autograd.grad(losses.sum(), images)
    return gradient.detach(), losses.detach(), logits.detach()
