"""A decision-based attack for segmentation: a random search that reads only predicted labels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.square import random_signs, random_window, window_side
from segbench.attacks.tools.losses import right_pixels
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.projections import l2_radius, project

SCHEDULED: dict[Norm, int] = {"linf": 1_000, "l2": 10_000, "rms": 10_000}
"""Number of queries that the schedule of the squares' sides is stretched to, whatever `steps` is."""
FACTORS = (0.0, 0.8, 1.25)
"""By these a square is weakened or strengthened under "l2" and "rms", every other time in place of a new colour."""


@attack("label-square", nested=True, access="labels")
def label_square(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    norm: Norm = "linf",
    eps: float = 0.03,
    steps: int = 1000,
    share: float = 0.8,
    ignore_index: int = 255,
    generator: Generators = (),
) -> Iterator[Tensor]:
    """Random search with squares of one colour that keeps a square unless it makes more pixels correct.

    The search starts from vertical stripes and asks for one label map per step. Under "linf" a square is +-eps per
    channel. Under "l2" and "rms" a square gets a colour of the present magnitude, or is weakened, strengthened or
    removed, and the whole perturbation is scaled to length eps, so that it can gather where it helps. A square that
    leaves the number of correct pixels as it was is kept too: the count is flat between decisions.

    Args:
        model: network, images -> logits; only their largest channel is read.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        norm: norm of the ball, "linf", "l2" or "rms".
        eps: radius of the ball, in [0, 1] units.
        steps: number of queries per image.
        share: share of the image that the first squares cover; it is halved as in the paper.
        ignore_index: label of void pixels.
        generator: random generators for the squares, one per image.

    Source: Andriushchenko et al. 2020, algorithms 1 and 2, https://arxiv.org/abs/1912.00049; the count of pixels as
        what a decision-based attack on segmentation follows is that of Chen et al. 2024, https://arxiv.org/abs/2402.01220.
    Departs from it in: the number of correct pixels replaces the margin loss, ties are accepted, the schedule is that
        for 1,000 queries ("l2" and "rms": 10,000) whatever `steps` is, and squares under "l2" have one colour and no
        concentric pattern.
    """
    valid = (masks != ignore_index).flatten(1).any(1)
    fewest = torch.where(valid, torch.inf, -1.0)
    change, adversarial = torch.zeros_like(images), images
    for query in range(steps):
        side = window_side(query, SCHEDULED[norm], share, images.shape[2:])
        pairs = zip(change, generator, strict=True)
        tried = torch.stack([_proposal(own, query, side, norm, eps, source) for own, source in pairs])
        shown = project(images + tried, images, norm, eps)
        with torch.no_grad():
            right = right_pixels(model(shown), masks, ignore_index=ignore_index)
        kept = right <= fewest
        fewest = torch.where(kept, right.to(fewest.dtype), fewest)
        change = torch.where(kept.view(-1, 1, 1, 1), tried, change)
        adversarial = torch.where(kept.view(-1, 1, 1, 1), shown, adversarial)
        yield adversarial


def _proposal(change: Tensor, query: int, side: int, norm: Norm, eps: float, generator: torch.Generator) -> Tensor:
    """Return another perturbation (3, H, W): stripes at first, then `change` with one square replaced."""
    radius = eps if norm == "linf" else l2_radius(change[None], norm, eps)
    if query == 0:
        stripes = (
            random_signs(generator, change.shape[2]).to(change, non_blocking=True).unsqueeze(1).expand(change.shape)
        )
        return stripes * (eps if norm == "linf" else radius / change.numel() ** 0.5)
    rows, columns = random_window(generator, side, change.shape[1:])
    colour = random_signs(generator, 1).to(change, non_blocking=True).view(3, 1, 1)
    tried = change.clone()
    if norm == "linf":
        tried[:, rows, columns] = eps * colour
        return tried
    if int(torch.randint(2, (1,), generator=generator)):
        tried[:, rows, columns] = colour * radius / (change != 0).sum().clamp_min(1).double().sqrt()
    else:
        tried[:, rows, columns] *= FACTORS[int(torch.randint(len(FACTORS), (1,), generator=generator))]
    length = torch.linalg.vector_norm(tried.double())
    return torch.where(length > 0, tried * (radius / length), change)
