"""The Segmentation Ensemble Attack (SEA), second version."""

from __future__ import annotations

from torch import Tensor, nn

from segbench.attacks.apgd import auto_pgd
from segbench.attacks.base import attack
from segbench.attacks.tools.ascent import random_start
from segbench.attacks.tools.losses import LossName, counted_classes, named_loss
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.projections import project

LOSSES: tuple[LossName, ...] = ("balanced-masked-ce", "masked-ce", "js")
STAGES = ((2.0, 30), (1.5, 30), (1.0, 40))
"""Radius in units of eps, and share of the steps in per cent, for each stage."""


@attack("sea", version=2, ensemble=True)
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
    """Segmentation Ensemble Attack v2: APGD with three losses and a shrinking radius; the strongest for each image.

    The losses are masked cross-entropy divided by the training pixels of the class, masked cross-entropy, and
    Jensen-Shannon divergence. Each loss runs 30 % of the steps at radius 2 eps, 30 % at 1.5 eps and 40 % at eps. The
    first stage starts at random; every later stage starts at the previous stage's iterate with the fewest correct
    pixels, projected to its ball. A stage stops on an image as soon as no pixel of it is correct.

    The results of the three losses are the parts of this ensemble. Their counts give the worst accuracy per image and
    the greedy worst-case mIoU over the dataset.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: L_inf radius of the ball, in [0, 1] units.
        steps: number of steps of each loss.
        ignore_index: label of void pixels.
        generator: random generators for the starts, one per image.
        class_pixels: (C,) number of training pixels of each class; of pixels of the scored split in an evaluation on a
            dataset without a training split. None counts the classes in `masks`, with a warning.

    Source: Croce et al. 2024, sections 3.4 to 3.6, https://arxiv.org/abs/2306.12941v2, and the authors' code,
        https://github.com/nmndeep/Robust-Segmentation.
    Departs from it in: void pixels count as correct nowhere; the authors' code counts them as wrong at the start of a
        stage and as correct later, so that an image with void pixels may keep its start. The step size is halved if
        fewer than 75 % of the steps raised the loss (the code: at most 75 %), and already at the first checkpoint if
        the loss has not risen since the start. Every image stops on its own; the code runs all images of a batch to the
        end unless all are fooled. The greedy search for the worst-case mIoU starts from the loss with the lowest mIoU
        and goes through the images in order; the code starts from the balanced loss and shuffles the images.
    """
    if class_pixels is None:
        class_pixels = counted_classes(masks, "sea", ignore_index=ignore_index)
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
    """Return the number of steps of each stage, rounded down; the last stage gets the remaining steps."""
    counts = [share * steps // 100 for _, share in STAGES[:-1]]
    return [*counts, steps - sum(counts)]
