"""What the iterative attacks share: a random start, and projected steps up a loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from segbench.attacks.tools.budget import Norm
from segbench.attacks.tools.losses import PixelLoss, input_gradient
from segbench.attacks.tools.noise import Generators, uniform_like
from segbench.attacks.tools.projections import project, step


def random_start(
    images: Tensor, masks: Tensor, generator: Generators, *, eps: float, norm: Norm, ignore_index: int = 255
) -> Tensor:
    """Return random images in the ball and in [0, 1]; an image without a valid pixel stays as it is.

    Under "linf" uniform in the box of half-width eps; under "l2" and "rms" a random direction and a uniform radius.

    Args:
        images: centres of the balls, (N, 3, H, W).
        masks: (N, H, W).
        generator: one per image.
        eps: radius of the ball, in [0, 1] units.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        ignore_index: label of void pixels.
    """
    noise = uniform_like(images, generator, -1, 1)
    if norm == "linf":
        noise = noise * eps
    else:
        noise = step(noise, norm, eps) * uniform_like(images[:, :1, :1, :1], generator, 0, 1)
    has_valid = (masks != ignore_index).flatten(1).any(1).view(-1, 1, 1, 1)
    return project(images + noise * has_valid, images, norm, eps)


def ascend(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    start: Tensor,
    losses: Iterable[PixelLoss],
    *,
    eps: float,
    alpha: float,
    norm: Norm,
    ignore_index: int = 255,
) -> Iterator[Tensor]:
    """Take one projected step of size alpha up each of the losses, and yield the images after every step.

    Args:
        model: network, images -> logits.
        images: centres of the balls, (N, 3, H, W).
        masks: (N, H, W).
        start: where to begin, (N, 3, H, W).
        losses: a loss per step.
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        ignore_index: label of void pixels.
    """
    adversarial = start
    for loss in losses:
        gradient, _, _ = input_gradient(model, adversarial, masks, loss, ignore_index=ignore_index)
        adversarial = project(adversarial + step(gradient, norm, alpha), images, norm, eps)
        yield adversarial


def last(iterates: Iterator[Tensor], start: Tensor) -> Tensor:
    """Return the last of the iterates, or the start where there are none."""
    result = start
    for images in iterates:
        result = images
    return result
