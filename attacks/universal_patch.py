"""Universal adversarial patch: one patch for all images of a split."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segbench.attacks.base import Batches, attack
from segbench.attacks.patch import Counted, counted_labels, covered, patch_gradient, patch_loss
from segbench.attacks.tools.noise import Generators, per_image
from segbench.attacks.tools.patches import Motion, Place, drawn, paste, scored_poses, side
from segbench.attacks.tools.targets import Target, goal


def fit_patch(
    model: nn.Module,
    batches: Batches,
    *,
    size: float,
    place: Place,
    shift: float,
    scale: float,
    rotation: float,
    brightness: float,
    alpha: float,
    epochs: int,
    gamma: float,
    counted: Counted,
    target: Target | None,
    ignore_index: int,
) -> Tensor:
    """Compute the colours by projected sign steps, one per batch, each image in a pose of its own.

    Args:
        model: network, images -> logits.
        batches: pairs of images (N, 3, H, W) in [0, 1] and masks (N, H, W).
        size: see `universal_patch`, as all further arguments.
        place: where the patch lies.
        shift: largest random shift.
        scale: random factor of the side.
        rotation: largest random rotation, in degrees.
        brightness: random factor of the colours.
        alpha: size of a step, in [0, 1] units.
        epochs: passes through the batches.
        gamma: weight of pixels that are not fooled yet.
        counted: pixels whose loss counts.
        target: class or label map, or None.
        ignore_index: label of void pixels.

    Returns:
        The colours, (3, h, w): as many pixels as the patch covers in the first batch.
    """
    ways = Motion(size, place, shift, scale, rotation, brightness)
    loss = patch_loss(gamma, targeted=target is not None, ignore_index=ignore_index)
    generator = torch.Generator().manual_seed(0)
    colours: Tensor | None = None
    for _ in range(epochs):
        for images, masks in batches:
            if colours is None:
                length = side(size, *images.shape[2:])
                colours = torch.rand(3, length, length, generator=generator).to(images)
            poses = drawn(ways, images, per_image(generator, len(images)))
            labels = goal(masks, target, ignore_index=ignore_index)
            wanted = counted_labels(labels, poses, images, counted, ignore_index)
            own = colours.expand(len(images), -1, -1, -1)
            gradient, _ = patch_gradient(model, images, own, poses, wanted, loss, ignore_index)
            colours = (colours + alpha * gradient.sum(0).sign()).clamp(0, 1)
    if colours is None:
        raise ValueError("universal-patch needs at least one training batch to fit its patch, got none")
    return colours


@attack("universal-patch", fit=fit_patch, region=covered)
def universal_patch(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    size: float = 0.05,
    place: Place = None,
    shift: float = 0.0,
    scale: float = 0.0,
    rotation: float = 0.0,
    brightness: float = 0.0,
    alpha: float = 0.02,
    epochs: int = 5,
    gamma: float = 0.8,
    counted: Counted = "outside",
    target: Target | None = None,
    ignore_index: int = 255,
    generator: Generators = (),
    perturbation: Tensor | None = None,
) -> Tensor:
    """Universal adversarial patch: one patch for all images, fitted on the training split.

    `fit` starts from random colours and takes one sign step per training batch, with each image's patch in a random
    pose. Each scored image holds the patch in a pose of its own, drawn in the same way; by default at a random place.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1], of any size.
        masks: (N, H, W); an image without a valid pixel is returned unchanged, otherwise unused.
        size: share of the image that the patch covers, in (0, 1].
        place: shares of the free rows above and the free columns left of the patch: [0.5, 0.5] is the centre, [1, 1]
            the lower right corner; none for a random place.
        shift: largest random shift, as a share of the image's height and width.
        scale: the side is multiplied by a random factor in [1 - scale, 1 + scale].
        rotation: largest random rotation, in degrees.
        brightness: the colours are multiplied by a random factor in [1 - brightness, 1 + brightness].
        alpha: size of a step, in [0, 1] units.
        epochs: passes through the training batches.
        gamma: weight of pixels that are not fooled yet, against 1 - gamma of those that are.
        counted: pixels whose loss counts: those "outside" of the patch, or "all".
        target: class or label map (see `tools.targets`) to drive the prediction towards; None drives it away from the
            masks.
        ignore_index: label of void pixels.
        generator: random generators for the scored poses, one per image.
        perturbation: the result of `fit`, (3, h, w).

    Source: Brown et al. 2017, https://arxiv.org/abs/1712.09665; for segmentation Nesti et al. 2022, section 3,
        https://arxiv.org/abs/2108.06179.
    Departs from it in: sign steps in place of Adam; gamma is fixed; no loss for smooth or printable colours.
    """
    if perturbation is None:
        raise ValueError(
            "universal-patch needs its patch, which is fitted on training batches first: "
            "bound = universal_patch.bind(size=...); perturbation = bound.fit(model, batches); "
            "bound(model, images, masks, perturbation=perturbation)"
        )
    poses = scored_poses(Motion(size, place, shift, scale, rotation, brightness), images, generator)
    pasted = paste(images, perturbation.to(images).expand(len(images), -1, -1, -1), poses)
    has_valid = (masks != ignore_index).flatten(1).any(1).view(-1, 1, 1, 1)
    return torch.where(has_valid, pasted, images)
