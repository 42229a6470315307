"""Adversarial training with SegPGD (SegPGD-AT)."""

from __future__ import annotations

from segbench.attacks.base import BoundAttack
from segbench.attacks.segpgd import segpgd
from segbench.defenses.base import defense
from segbench.defenses.tools.adversarial import AdversarialTraining
from segbench.model_zoo.base import Segmenter

TRAINING_SEGPGD = segpgd.bind(eps=0.03, alpha=0.01, steps=3)
"""SegPGD with eps 0.03; Gu et al. 2022 train with 3 or 7 steps, this default takes 3."""


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
    """SegPGD adversarial training: the first half of each batch is clean, the second half is attacked with SegPGD.

    Args:
        segmenter: the network to train.
        attack: the attack used in training.
        clean: share of each batch, from its start, that is not attacked, in [0, 1).
        warmup: number of batches over which the attack's `eps` and `alpha` grow linearly to their values.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Gu et al. 2022, section 4 (segmentation adversarial training), https://arxiv.org/abs/2207.12391.
    Departs from it in: the split into clean and attacked halves follows reimplementations by others, because the
        authors' training code is not public.
    """
    return AdversarialTraining(
        segmenter, attack=attack, clean=clean, warmup=warmup, aux_weight=aux_weight, ignore_index=ignore_index
    )
