"""Adversarial training on whole batches (PGD-AT)."""

from __future__ import annotations

from segbench.attacks.base import BoundAttack
from segbench.attacks.pgd import pgd
from segbench.defenses.base import defense
from segbench.defenses.tools.adversarial import AdversarialTraining
from segbench.model_zoo.base import Segmenter

TRAINING_PGD = pgd.bind(eps=0.03, alpha=0.01, steps=5)
"""PGD with the budget of Xu et al. 2021 and the number of training steps of Croce et al. 2024."""


@defense("pgd-at")
def pgd_at(
    segmenter: Segmenter,
    *,
    attack: BoundAttack = TRAINING_PGD,
    warmup: int = 0,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> AdversarialTraining:
    """PGD adversarial training: every image of every batch is attacked with PGD.

    Args:
        segmenter: the network to train.
        attack: the attack used in training.
        warmup: number of batches over which the attack's `eps` and `alpha` grow linearly to their values.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Madry et al. 2018, section 2.1, https://arxiv.org/abs/1706.06083; with 5 steps for segmentation Croce et
        al. 2024, section 4, https://arxiv.org/abs/2306.12941.
    Departs from it in: the budget is that of Xu et al. 2021, so that the defenses in a table are comparable.
    """
    return AdversarialTraining(
        segmenter, attack=attack, warmup=warmup, aux_weight=aux_weight, ignore_index=ignore_index
    )
