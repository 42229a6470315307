"""Adversarial training with SegPGD (SegPGD-AT)."""

from __future__ import annotations

from segbench.attacks.base import BoundAttack
from segbench.attacks.segpgd import segpgd
from segbench.defenses.base import defense
from segbench.defenses.tools.adversarial import AdversarialTraining
from segbench.model_zoo.base import Segmenter

TRAINING_SEGPGD = segpgd.bind(eps=0.03, alpha=0.01, steps=3)
"""SegPGD with the budget and the fewer of the two numbers of steps (3, 7) with which Gu et al. 2022 train."""


@defense("segpgd-at")
def segpgd_at(
    segmenter: Segmenter,
    *,
    attack: BoundAttack = TRAINING_SEGPGD,
    clean: float = 0.5,
    warmup: int = 0,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> AdversarialTraining:
    """Adversarial training with SegPGD: the first half of each batch clean, the second half attacked.

    Args:
        segmenter: the network to train.
        attack: the attack inside training.
        clean: share of each batch, from its start, that stays clean, in [0, 1).
        warmup: number of batches over which the attack's `eps` and `alpha` grow to their values.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Gu et al. 2022, section 4 (segmentation adversarial training), https://arxiv.org/abs/2207.12391.
    Departs from it in: the half-and-half split is read from others' reimplementations; no code of the authors for
        training is public.
    """
    return AdversarialTraining(
        segmenter, attack=attack, clean=clean, warmup=warmup, aux_weight=aux_weight, ignore_index=ignore_index
    )
