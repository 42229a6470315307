"""Adversarial patch: a square of any colours in an image that spoils the labels around it."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.tools.losses import (
    PixelLoss,
    input_gradient,
    objective,
    unfooled_pixels,
    weighted_cross_entropy,
)
from segbench.attacks.tools.noise import Generators, uniform_like
from segbench.attacks.tools.patches import Motion, Place, Poses, drawn, footprint, motion, paste, scored_poses, side
from segbench.attacks.tools.targets import Target, goal

Counted = Literal["outside", "all"]


def covered(images: Tensor, masks: Tensor, *, ignore_index: int, generator: Generators, **options: Any) -> Tensor:
    """Return the pixels that a patch may change, (N, H, W) bool: those that it covers in the scored images.

    Args:
        images: (N, 3, H, W).
        masks: (N, H, W), unused: a patch lies where its options and its generator say.
        ignore_index: label of void pixels.
        generator: one generator per image.
        **options: the attack's options.
    """
    return footprint(scored_poses(motion(options), images, generator), images)


@attack("patch", region=covered)
def patch(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    size: float = 0.05,
    place: Place = (0.5, 0.5),
    shift: float = 0.0,
    scale: float = 0.0,
    rotation: float = 0.0,
    brightness: float = 0.0,
    samples: int = 1,
    alpha: float = 0.05,
    steps: int = 100,
    gamma: float = 0.8,
    counted: Counted = "outside",
    target: Target | None = None,
    ignore_index: int = 255,
    generator: Generators = (),
) -> Tensor:
    """Adversarial patch: a square of any colours in each image that spoils the labels around it.

    The attack starts from random colours and takes sign steps on the patch's own pixels, with no bound but [0, 1]. With
    random shifts, scales, rotations or brightness every step averages over `samples` poses (expectation over
    transformation), and the scored image holds the patch in one more pose, which the attack does not know before. With
    a fixed pose the patch of the step that leaves the fewest pixels to fool is returned (of several, the last), else
    that of the last step.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        size: share of the image that the patch covers, in (0, 1].
        place: shares of the free rows above and the free columns left of the patch: [0.5, 0.5] is the centre, [1, 1]
            the lower right corner; none for a random place.
        shift: largest random shift, as a share of the image's height and width.
        scale: the side is multiplied by a random factor in [1 - scale, 1 + scale].
        rotation: largest random rotation, in degrees.
        brightness: the colours are multiplied by a random factor in [1 - brightness, 1 + brightness].
        samples: poses that each step averages over.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps.
        gamma: weight of pixels that are not fooled yet, against 1 - gamma of those that are.
        counted: pixels whose loss counts: those "outside" of the patch, or "all".
        target: class or label map (see `tools.targets`) to drive the prediction towards; None drives it away from the
            masks.
        ignore_index: label of void pixels.
        generator: random generators for colours and poses, one per image.

    Source: Nesti et al. 2022, section 3, https://arxiv.org/abs/2108.06179; Brown et al. 2017 (patch),
        https://arxiv.org/abs/1712.09665; Athalye et al. 2018 (expectation over transformation),
        https://arxiv.org/abs/1707.07397.
    Departs from it in: sign steps in place of Adam; gamma is fixed; no loss for smooth or printable colours.
    """
    ways = Motion(size, place, shift, scale, rotation, brightness)
    labels, targeted = goal(masks, target, ignore_index=ignore_index), target is not None
    loss = patch_loss(gamma, targeted=targeted, ignore_index=ignore_index)
    length = side(size, *images.shape[2:])
    final = scored_poses(ways, images, generator)
    colours = uniform_like(images[..., :length, :length], generator, 0, 1)
    fewest = torch.full((len(images),), torch.inf, device=images.device)
    best = colours
    for _ in range(steps):
        gradient = torch.zeros_like(colours)
        for _ in range(1 if ways.fixed else samples):
            poses = final if ways.fixed else drawn(ways, images, generator)
            wanted = counted_labels(labels, poses, images, counted, ignore_index)
            own, logits = patch_gradient(model, images, colours, poses, wanted, loss, ignore_index)
            gradient += own
        if ways.fixed:
            best, fewest = _better(best, fewest, colours, logits, wanted, targeted, ignore_index)
        colours = (colours + alpha * gradient.sign()).clamp(0, 1)
    if ways.fixed:
        with torch.no_grad():
            logits = model(paste(images, colours, final))
        wanted = counted_labels(labels, final, images, counted, ignore_index)
        colours, _ = _better(best, fewest, colours, logits, wanted, targeted, ignore_index)
    has_valid = (labels != ignore_index).flatten(1).any(1).view(-1, 1, 1, 1)
    return torch.where(has_valid, paste(images, colours, final), images)


def patch_loss(gamma: float, *, targeted: bool, ignore_index: int) -> PixelLoss:
    """Return the loss that a patch raises; see `patch`."""
    loss = partial(weighted_cross_entropy, weight=1 - gamma if targeted else gamma)
    return objective(loss, targeted=targeted, ignore_index=ignore_index)


def counted_labels(labels: Tensor, poses: Poses, images: Tensor, counted: Counted, ignore_index: int) -> Tensor:
    """Return the labels of the pixels whose loss counts, void elsewhere, (N, H, W)."""
    return labels.masked_fill(footprint(poses, images), ignore_index) if counted == "outside" else labels


def patch_gradient(
    model: nn.Module,
    images: Tensor,
    colours: Tensor,
    poses: Poses,
    labels: Tensor,
    loss: PixelLoss,
    ignore_index: int,
) -> tuple[Tensor, Tensor]:
    """Return the gradient of each image's mean loss with respect to its patch's colours, and the logits.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        colours: of each patch, (N, 3, h, w).
        poses: where the patches lie.
        labels: (N, H, W).
        loss: per-pixel loss of logits and labels.
        ignore_index: label of void pixels.
    """
    colours = colours.detach().requires_grad_()
    pasted = paste(images, colours, poses)
    gradient, _, logits = input_gradient(model, pasted.detach(), labels, loss, ignore_index=ignore_index)
    (own,) = torch.autograd.grad(pasted, colours, gradient)
    return own, logits


def _better(
    best: Tensor,
    fewest: Tensor,
    colours: Tensor,
    logits: Tensor,
    labels: Tensor,
    targeted: bool,
    ignore_index: int,
) -> tuple[Tensor, Tensor]:
    """Return the patches that leave the fewest pixels to fool, of the best so far and the new ones, and how many."""
    left = unfooled_pixels(logits, labels, targeted=targeted, ignore_index=ignore_index).to(fewest)
    return torch.where((left <= fewest).view(-1, 1, 1, 1), colours, best), torch.minimum(left, fewest)
