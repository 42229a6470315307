"""Building blocks of iterative attacks: a random start, and projected gradient ascent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from torch import Tensor, nn

from segbench.attacks.tools.budget import Norm
from segbench.attacks.tools.losses import PixelLoss, input_gradient
from segbench.attacks.tools.noise import Generators, uniform_like
from segbench.attacks.tools.projections import project, step

Keep = Literal["accuracy", "loss"]
"""How the best of several iterates or restarts is chosen: by the fewest correct pixels, or by the mean loss."""


def random_start(
    images: Tensor, masks: Tensor, generator: Generators, *, eps: float, norm: Norm, ignore_index: int = 255
) -> Tensor:
    """Sample a random start for every image, inside its eps ball and inside [0, 1].

    With "linf" the noise is uniform in [-eps, eps]. With "l2" and "rms" it has a random direction and a uniform
    radius. An image without a valid pixel is returned unchanged.

    Args:
        images: clean images, the centres of the balls, (N, 3, H, W).
        masks: (N, H, W).
        generator: one generator per image.
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
    """Take one projected gradient step per loss, and yield the images after every step.

    Args:
        model: network, images -> logits.
        images: clean images, the centres of the balls, (N, 3, H, W).
        masks: (N, H, W).
        start: images to start from, (N, 3, H, W).
        losses: one loss per step; the number of losses is the number of steps.
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
    """Return the last iterate, or `start` if there is none."""
    result = start
    for images in iterates:
        result = images
    return result
