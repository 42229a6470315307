"""The Segmentation Ensemble Attack (SEA), second version."""

from __future__ import annotations

from torch import Tensor, nn

from segbench.attacks.apgd import auto_pgd
from segbench.attacks.base import attack
from segbench.attacks.tools.ascent import random_start
from segbench.attacks.tools.losses import LossName, named_loss
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.projections import project

LOSSES: tuple[LossName, ...] = ("balanced-masked-ce", "masked-ce", "js")
STAGES = ((2.0, 30), (1.5, 30), (1.0, 40))
"""Radius in units of eps, and share of the steps in per cent, of each stage."""


@attack("sea", ensemble=True)
def sea(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    steps: int = 300,
    ignore_index: int = 255,
    generator: Generators = (),
    class_pixels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Segmentation Ensemble Attack v2: APGD with three losses and a shrinking radius, each image's worst kept.

    Each loss (masked cross-entropy divided by the class's training pixels, masked cross-entropy, Jensen-Shannon) takes
    30 % of the steps at radius 2 eps, 30 % at 1.5 eps and 40 % at eps. A stage starts at the iterate of the stage
    before with the fewest right pixels, projected; the first one at random. An image of which no pixel is right is
    finished with its stage. The three results are its parts: their counts give the per-image worst accuracy and the
    greedy dataset mIoU.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball under "linf", in [0, 1] units.
        steps: number of steps of each loss.
        ignore_index: label of void pixels.
        generator: source of the random starts, one per image.
        class_pixels: (C,) number of training pixels of each class.

    Source: Croce et al. 2024, sections 3.4 to 3.6, https://arxiv.org/abs/2306.12941v2, and the authors' code.
    Departs from it in: void pixels are right nowhere, where the authors' code counts them as wrong at a stage's start
        and as right later.
    """
    parts: dict[str, Tensor] = {}
    for name in LOSSES:
        raised = named_loss(name, ignore_index=ignore_index, class_pixels=class_pixels)
        radius = STAGES[0][0] * eps
        adversarial = random_start(images, masks, generator, eps=radius, norm="linf", ignore_index=ignore_index)
        for (factor, _), count in zip(STAGES, stage_steps(steps), strict=True):
            adversarial = auto_pgd(
                model,
                images,
                masks,
                project(adversarial, images, "linf", factor * eps),
                raised,
                eps=factor * eps,
                steps=count,
                ignore_index=ignore_index,
            )
        parts[name] = adversarial
    return parts


def stage_steps(steps: int) -> list[int]:
    """Return the number of steps of each stage; the last one takes what rounding leaves."""
    counts = [share * steps // 100 for _, share in STAGES[:-1]]
    return [*counts, steps - sum(counts)]
