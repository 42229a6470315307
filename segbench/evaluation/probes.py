"""Measurements of a network that tell whether gradient attacks on it mean anything; see `segbench.reports.sanity`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from segbench.attacks.bim import bim
from segbench.attacks.cw import cw
from segbench.attacks.tools.guard import guarded
from segbench.attacks.tools.losses import cross_entropy, image_mean, input_gradient, objective, right_pixels
from segbench.evaluation.tally import confusion
from segbench.reports.evidence import Measurements
from segbench.reports.sanity import LARGE_EPS
from segbench.reports.statistics import mean_iou

SCALES = (0.1, 1.0, 10.0)
LARGE_STEPS, LARGE_ALPHA = 50, 0.2
"""Of C&W at a large eps."""


class Scaled(nn.Module):
    """A network whose logits are multiplied by a constant: it predicts the same.

    Args:
        model: images -> logits.
        factor: the constant, above 0.
    """

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model = model
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """Return the scaled logits."""
        logits: Tensor = self.model(images)
        return logits * self.factor


def measure(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float = 0.01,
    steps: int = 6,
    ignore_index: int = 255,
) -> Measurements:
    """Take all measurements on one batch; a few images suffice.

    It costs 3 * steps + 50 passes forward and backward per image, and a few more forward.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of BIM's ball, in [0, 1] units.
        alpha: size of BIM's steps, in [0, 1] units.
        steps: number of BIM's steps.
        ignore_index: label of void pixels.
    """
    attack = bim.bind(eps=eps, alpha=alpha, steps=steps)
    iterates = attack.iterates(range(1, steps + 1), model, images, masks, ignore_index=ignore_index)
    iterates[0] = images
    with guarded(model, images.device):
        by_scale = {1.0: accuracy(model, iterates[steps], masks, ignore_index=ignore_index)}
        for factor in SCALES:
            if factor != 1:
                attacked = attack(Scaled(model, factor), images, masks, ignore_index=ignore_index)
                by_scale[factor] = accuracy(model, attacked, masks, ignore_index=ignore_index)
        large = cw(model, images, masks, eps=LARGE_EPS, alpha=LARGE_ALPHA, steps=LARGE_STEPS, ignore_index=ignore_index)
        return Measurements(
            zero_loss=zero_loss(model, images, masks, ignore_index=ignore_index),
            zero_gradient=zero_gradient(model, images, masks, ignore_index=ignore_index),
            difference=difference(model, images),
            optimises=optimises(model, images),
            trajectory=tuple(
                mean_loss(model, iterates[step], masks, ignore_index=ignore_index) for step in sorted(iterates)
            ),
            by_scale=by_scale,
            at_large_eps=miou(model, large, masks, ignore_index=ignore_index),
        )


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, masks: Tensor, *, ignore_index: int = 255) -> float:
    """Share of the valid pixels that are right, in per cent."""
    right = right_pixels(model(images), masks, ignore_index=ignore_index).sum()
    return 100 * float(right / (masks != ignore_index).sum().clamp_min(1))


@torch.no_grad()
def miou(model: nn.Module, images: Tensor, masks: Tensor, *, ignore_index: int = 255) -> float:
    """MIoU over the classes in masks or predictions, in per cent."""
    logits = model(images)
    counts = confusion(logits.argmax(1), masks, logits.shape[1], ignore_index)
    return 100 * float(mean_iou(counts, "skip")) if counts.any() else 0.0


@torch.no_grad()
def mean_loss(model: nn.Module, images: Tensor, masks: Tensor, *, ignore_index: int = 255) -> float:
    """Mean over images of their mean cross-entropy."""
    losses = cross_entropy(model(images), masks, ignore_index=ignore_index)
    return float(image_mean(losses, masks, ignore_index=ignore_index).mean())


@torch.no_grad()
def zero_loss(model: nn.Module, images: Tensor, masks: Tensor, *, ignore_index: int = 255) -> float:
    """Share of the right valid pixels whose cross-entropy is exactly zero."""
    logits = model(images)
    right = (logits.argmax(1) == masks) & (masks != ignore_index)
    losses = cross_entropy(logits, masks, ignore_index=ignore_index)
    return float(((losses == 0) & right).sum() / right.sum().clamp_min(1))


def zero_gradient(model: nn.Module, images: Tensor, masks: Tensor, *, ignore_index: int = 255) -> float:
    """Share of the images with a valid pixel whose input gradient is exactly zero everywhere."""
    gradient, _, _ = input_gradient(
        model, images, masks, objective(cross_entropy, ignore_index=ignore_index), ignore_index=ignore_index
    )
    counted = (masks != ignore_index).flatten(1).any(1)
    zero = (gradient == 0).flatten(1).all(1) & counted
    return float(zero.sum() / counted.sum().clamp_min(1))


@torch.no_grad()
def difference(model: nn.Module, images: Tensor) -> float:
    """Largest difference between two forward passes of the same images, as a share of the largest logit."""
    first, second = model(images), model(images)
    return float((first - second).abs().max() / first.abs().max().clamp_min(1e-30))


def optimises(model: nn.Module, images: Tensor) -> bool:
    """Whether the network takes gradients, or changes its parameters or buffers, while it predicts."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with _GradientCalls() as calls, torch.no_grad():
        model(images)
    return calls.count > 0 or any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


class _GradientCalls(TorchFunctionMode):
    """Counts the calls that start a backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.autograd.grad, torch.autograd.backward, Tensor.backward):
            self.count += 1
        return func(*args, **(kwargs or {}))
