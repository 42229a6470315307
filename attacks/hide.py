"""Hide objects: drive the prediction on them towards what their surroundings say, and leave the rest as it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.tools.hiding import Region, changeable, instances, surroundings
from segbench.attacks.tools.losses import cross_entropy, input_gradient, predicted
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.projections import project, step
from segbench.attacks.tools.targets import Target


def hidden_objects(masks: Tensor, *, ignore_index: int, source: Target | None, **options: Any) -> Tensor:
    """Return the number of the object to hide that each pixel belongs to, (N, H, W); see `tools.hiding.instances`."""
    return instances(masks, source, ignore_index=ignore_index)


def region_of_hide(
    images: Tensor, masks: Tensor, *, ignore_index: int, generator: Generators, **options: Any
) -> Tensor:
    """Return the pixels that the attack may change, (N, H, W) bool.

    Args:
        images: (N, 3, H, W).
        masks: (N, H, W).
        ignore_index: label of void pixels.
        generator: one generator per image, unused.
        **options: the attack's options.
    """
    numbers = instances(masks, options["source"], ignore_index=ignore_index)
    return changeable(masks, numbers, options["region"], ignore_index=ignore_index)


@attack("hide", region=region_of_hide, objects=hidden_objects)
def hide(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    source: Target | None = None,
    region: Region = "all",
    eps: float = 0.03,
    alpha: float = 0.005,
    steps: int = 60,
    omega: float = 0.9,
    norm: Norm = "linf",
    ignore_index: int = 255,
) -> Tensor:
    """Hide objects: the prediction on them is driven towards what their surroundings say, and kept everywhere else.

    Each pixel of an object aims at the label of the nearest pixel of another class. A step lowers `omega` times the
    mean cross-entropy over the objects plus 1 - omega times that over the rest. The step is returned, for each image,
    at which the fewest pixels of objects are still predicted as their class; of several, the one with the most pixels
    of the rest right. An image without an object to hide is returned unchanged.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        source: class of the objects to hide; or a map in which 0 is no object and connected pixels of another value
            are one; or none for the objects of all classes.
        region: where pixels may change: all, the object (its own pixels), its surroundings, or an image file of a map
            that is not 0 where they may.
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps.
        omega: weight of the objects, in [0, 1]; the rest has 1 - omega.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        ignore_index: label of void pixels.

    Source: Metzen et al. 2017, section 3 (dynamic target), https://arxiv.org/abs/1704.05712; an object's
        surroundings as the only region that changes: Nakka and Salzmann 2020 (indirect local attacks),
        https://arxiv.org/abs/1911.13038.
    Departs from it in: labels come from the masks, where Metzen et al. take the prediction; the losses of objects and
        rest are means, so that omega does not depend on their sizes; the best step is kept.
    """
    numbers = instances(masks, source, ignore_index=ignore_index)
    labels = surroundings(masks, numbers, ignore_index=ignore_index)
    allowed = changeable(masks, numbers, region, ignore_index=ignore_index)[:, None]
    objects = (numbers > 0) & (labels != ignore_index)
    rest = (numbers == 0) & (masks != ignore_index)
    # The mean over valid pixels becomes a weighted sum of two means.
    valid = (labels != ignore_index).flatten(1).sum(1)
    weights = sum(
        weight * part * (valid / part.flatten(1).sum(1).clamp_min(1)).view(-1, 1, 1)
        for weight, part in ((omega, objects), (1 - omega, rest))
    )

    def loss(logits: Tensor, wanted: Tensor) -> Tensor:
        return -weights * cross_entropy(logits, wanted, ignore_index=ignore_index)

    best, adversarial = images, images
    lowest = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    has_object = objects.flatten(1).any(1).view(-1, 1, 1, 1)
    for number in range(steps + 1):
        if number < steps:
            gradient, _, logits = input_gradient(model, adversarial, labels, loss, ignore_index=ignore_index)
        else:
            with torch.no_grad():
                logits = model(adversarial)
        left = _left(logits, masks, objects, rest)
        best = torch.where((left < lowest).view(-1, 1, 1, 1), adversarial, best)
        lowest = torch.minimum(left, lowest)
        if number < steps:
            moved = adversarial + step(gradient * allowed, norm, alpha) * allowed
            adversarial = torch.where(allowed & has_object, project(moved, images, norm, eps), images)
    return best


def _left(logits: Tensor, masks: Tensor, objects: Tensor, rest: Tensor) -> Tensor:
    """Return pixels of objects still predicted as their class, plus the share of the rest that is wrong, (N,)."""
    right = predicted(logits) == masks
    still = (right & objects).flatten(1).sum(1).double()
    wrong = (~right & rest).flatten(1).sum(1) / (rest.flatten(1).sum(1) + 1)
    return still + wrong
