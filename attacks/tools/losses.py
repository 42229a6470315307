"""Per-pixel losses that attacks maximise, and the input gradient of their mean over each image.

Every loss takes logits (N, C, H, W) and masks (N, H, W) and returns (N, H, W), with exact zeros at void pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PixelLoss = Callable[[Tensor, Tensor], Tensor]
LossName = Literal["ce", "masked-ce", "balanced-masked-ce", "js", "masked-spherical", "cw-margin"]


def predicted(logits: Tensor, dim: int = 1) -> Tensor:
    """Label of the highest logit along a dimension, the first of equal ones: argmax, several times as fast on a CPU.

    Where the logits of a pixel lie far apart in memory, comparing one map after the other takes a third of the time.
    """
    logits = logits.detach()
    if logits.device.type != "cpu" or logits.stride(dim) == 1:
        return logits.max(dim).indices
    first, *others = logits.unbind(dim)
    highest, labels = first.clone(), torch.zeros_like(first, dtype=torch.int32)
    for label, values in enumerate(others, 1):
        labels.masked_fill_(values > highest, label)
        torch.maximum(highest, values, out=highest)
    return labels.long()


def cross_entropy(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Softmax cross-entropy of every pixel, (N, H, W)."""
    return F.cross_entropy(logits, masks, ignore_index=ignore_index, reduction="none")


def masked_cross_entropy(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Cross-entropy of the correctly classified pixels, 0 elsewhere.

    Source: Croce et al. 2024, section 3, https://arxiv.org/abs/2306.12941.
    """
    return cross_entropy(logits, masks, ignore_index=ignore_index) * (predicted(logits) == masks)


def weighted_cross_entropy(logits: Tensor, masks: Tensor, *, weight: float, ignore_index: int = 255) -> Tensor:
    """Cross-entropy, times `weight` at correctly classified pixels and times 1 - `weight` at wrong ones.

    Source: Nesti et al. 2022, section 3, https://arxiv.org/abs/2108.06179.
    """
    right = predicted(logits) == masks
    weights = torch.where(right, weight, 1 - weight).to(logits)
    return cross_entropy(logits, masks, ignore_index=ignore_index) * weights


def balanced_masked_cross_entropy(
    logits: Tensor, masks: Tensor, *, class_pixels: Tensor, ignore_index: int = 255
) -> Tensor:
    """Masked cross-entropy, divided by the number of training pixels of the true class.

    The weights are scaled so that the rarest class has weight 1. Scaling all of them changes no sign of a gradient.

    Args:
        logits: (N, C, H, W).
        masks: (N, H, W).
        class_pixels: (C,) number of pixels of each class in the training split.
        ignore_index: label of void pixels.

    Source: Croce et al. 2024, section 3, https://arxiv.org/abs/2306.12941.
    """
    pixels = class_pixels.to(logits).clamp_min(1)
    weights = pixels.min() / pixels
    labels = masks.where(masks != ignore_index, 0)
    return masked_cross_entropy(logits, masks, ignore_index=ignore_index) * weights[labels]


def counted_classes(masks: Tensor, name: str, *, ignore_index: int = 255) -> Tensor:
    """Count the pixels of each class in `masks`, (C,), in place of the training split's, and warn about it.

    Args:
        masks: (N, H, W).
        name: the attack, for the warning.
        ignore_index: label of void pixels.
    """
    warnings.warn(
        f"{name}: class_pixels, the number of training pixels of each class, is not given; the classes in the masks of "
        "this call are counted instead, so that the result depends on the batch",
        stacklevel=2,
    )
    return torch.bincount(masks[masks != ignore_index].flatten(), minlength=1)


def jensen_shannon(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Jensen-Shannon divergence between softmax(logits) and the one-hot label, in nats.

    The divergence depends only on the probability p of the true class: log 2 + (p log p - (1 + p) log(1 + p)) / 2.
    This implementation takes log p from the log-softmax, so that value and gradient stay finite when p underflows.

    Source: Croce et al. 2024, section 3, https://arxiv.org/abs/2306.12941.
    """
    log_p = -cross_entropy(logits, masks, ignore_index=ignore_index)
    p = log_p.exp()
    return (math.log(2) + (p * log_p - (1 + p) * p.log1p()) / 2) * (masks != ignore_index)


def masked_spherical(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Minus the true logit divided by the Euclidean norm of all logits, at correctly classified pixels; 0 elsewhere.

    Logits of classes that the network does not know do not enter the norm (see `known_classes`).

    Source: Croce et al. 2023, https://arxiv.org/abs/2306.12941v1.
    """
    valid = masks != ignore_index
    true = logits.gather(1, masks.where(valid, 0).unsqueeze(1)).squeeze(1)
    right = (predicted(logits) == masks) & valid
    known = known_classes(logits.detach())[:, :, None, None]
    share: Tensor = true / torch.where(known, logits, 0).norm(dim=1).clamp_min(1e-12)
    return -share * right


def margin(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """True logit minus the highest other logit: positive at correctly classified pixels, negative at wrong ones."""
    valid = masks != ignore_index
    labels = masks.where(valid, 0).unsqueeze(1)
    true = logits.gather(1, labels).squeeze(1)
    others = logits.scatter(1, labels, -torch.inf).amax(1)
    return (true - others) * valid


def carlini_wagner(logits: Tensor, masks: Tensor, *, kappa: float = 0.0, ignore_index: int = 255) -> Tensor:
    """Minus the margin, clipped: a pixel adds nothing more to the loss once its margin is below -kappa.

    Source: Carlini and Wagner 2017, f6, https://arxiv.org/abs/1608.04644.
    """
    return -margin(logits, masks, ignore_index=ignore_index).clamp_min(-kappa) * (masks != ignore_index)


def soft_margin(
    logits: Tensor, masks: Tensor, *, width: float, typical: Tensor | None = None, ignore_index: int = 255
) -> Tensor:
    """Minus m / (|m| + w) for the margin m, with w = `width` times the typical margin of the image.

    A width near 0 counts correct pixels (-1 for a correct, +1 for a wrong pixel); a large width approaches minus the
    margin, up to a constant factor. Multiplying all logits by a constant changes nothing.

    Args:
        logits: (N, C, H, W).
        masks: (N, H, W).
        width: margin at which the slope is a quarter of the slope at zero, in units of the typical margin.
        typical: (N, 1, 1), to compare the losses of different logits; None computes it from `logits`.
        ignore_index: label of void pixels.
    """
    margins = margin(logits, masks, ignore_index=ignore_index)
    if typical is None:
        typical = typical_margin(logits, masks, ignore_index=ignore_index)
    return -margins / (margins.abs() + width * typical)


def typical_margin(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Mean absolute margin over the valid pixels of each image, (N, 1, 1), detached; 1 where it is 0.

    Pixels of classes that the network does not know are left out (see `known_classes`). Their logit is an arbitrary
    large negative number, such as -1e4, that would dominate the mean.
    """
    logits = logits.detach()
    labels = masks.where(masks != ignore_index, 0)
    known = known_classes(logits).gather(1, labels.flatten(1)).view(labels.shape)
    counted = masks.where(known, ignore_index)
    mean = image_mean(margin(logits, counted, ignore_index=ignore_index).abs(), counted, ignore_index=ignore_index)
    return torch.where(mean > 0, mean, 1).view(-1, 1, 1)


def known_classes(logits: Tensor) -> Tensor:
    """Return which classes the network can predict in each image, (N, C) bool.

    A class is unknown if its logit is the same at every pixel, up to 1 %, and below the highest logit everywhere.
    Networks with fewer classes than the dataset have such constant channels.

    Args:
        logits: (N, C, H, W).
    """
    low, high = logits.flatten(2).aminmax(dim=2)
    varies = high - low > 0.01 * torch.maximum(low.abs(), high.abs())
    return varies | (high >= logits.amax(1).flatten(1).amin(1, keepdim=True))


def named_loss(name: LossName, *, ignore_index: int = 255, class_pixels: Tensor | None = None) -> PixelLoss:
    """Return the loss with the given name.

    Args:
        name: name of the loss as written in a matrix, for example "masked-ce".
        ignore_index: label of void pixels.
        class_pixels: (C,) number of pixels of each class in the training split, for "balanced-masked-ce".
    """
    if name == "balanced-masked-ce":
        if class_pixels is None:
            raise ValueError(
                "balanced-masked-ce weighs classes by their training pixels: pass class_pixels, a tensor of shape (C,)"
            )
        return partial(balanced_masked_cross_entropy, class_pixels=class_pixels, ignore_index=ignore_index)
    losses: dict[str, Callable[..., Tensor]] = {
        "ce": cross_entropy,
        "masked-ce": masked_cross_entropy,
        "js": jensen_shannon,
        "masked-spherical": masked_spherical,
        "cw-margin": carlini_wagner,
    }
    return partial(losses[name], ignore_index=ignore_index)


def objective(
    loss: Callable[..., Tensor], *, targeted: bool = False, rescale: bool = False, ignore_index: int = 255
) -> PixelLoss:
    """Return the function that an attack maximises: a loss, with its sign flipped for targeted attacks.

    Args:
        loss: one of this module's losses; it takes `ignore_index`.
        targeted: the labels are the attack's target, so that the loss is minimised; see `tools.targets.goal`.
        rescale: divide each image's logits by `logit_scale` before the loss.
        ignore_index: label of void pixels.
    """

    def raised(logits: Tensor, masks: Tensor) -> Tensor:
        if rescale:
            logits = logits / logit_scale(logits, masks, ignore_index=ignore_index)
        values = loss(logits, masks, ignore_index=ignore_index)
        return -values if targeted else values

    return raised


def logit_scale(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Mean gap between the two highest logits over each image's valid pixels, (N, 1, 1, 1), detached; 1 where it is 0.

    Dividing the logits by it removes any constant factor of the logits and keeps their cross-entropy from saturating.
    """
    highest = logits.detach().topk(2, dim=1).values
    gap = image_mean(highest[:, 0] - highest[:, 1], masks, ignore_index=ignore_index)
    return torch.where(gap > 0, gap, 1).view(-1, 1, 1, 1)


def image_mean(pixel_values: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Mean over the valid pixels of each image, (N,); 0 for an image without valid pixels."""
    valid = masks != ignore_index
    return (pixel_values * valid).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)


def right_pixels(logits: Tensor, masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Number of correctly classified valid pixels of each image, (N,)."""
    return unfooled_pixels(logits, masks, ignore_index=ignore_index)


def unfooled_pixels(logits: Tensor, labels: Tensor, *, targeted: bool = False, ignore_index: int = 255) -> Tensor:
    """Number of valid pixels of each image that the attack has not fooled yet, (N,).

    An untargeted attack fools a pixel if its prediction is not the label; a targeted one if it is.

    Args:
        logits: (N, C, H, W).
        labels: true labels, or those of the target, (N, H, W).
        targeted: the labels are the attack's target; see `tools.targets.goal`.
        ignore_index: label of void pixels.
    """
    pending: Tensor = ((predicted(logits) == labels) ^ targeted) & (labels != ignore_index)
    return pending.flatten(1).sum(1)


def input_gradient(
    model: nn.Module, images: Tensor, masks: Tensor, loss: PixelLoss, *, ignore_index: int = 255
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of each image's mean loss with respect to that image.

    Parameters receive no gradient. The sum over images of the per-image means is differentiated, so the gradient of
    an image does not depend on the other images of the batch.

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
