"""Standard adversarial training (SAT)."""

from __future__ import annotations

from segbench.attacks.base import BoundAttack
from segbench.attacks.bim import bim
from segbench.defenses.base import defense
from segbench.defenses.tools.adversarial import AdversarialTraining
from segbench.model_zoo.base import Segmenter

PAPER_ATTACK = bim.bind(eps=0.03, alpha=0.01, steps=3)
"""The training attack of Xu et al. 2021, section 6.2: BIM with an L_inf bound and no random start."""


@defense("sat")
def sat(
    segmenter: Segmenter,
    *,
    attack: BoundAttack = PAPER_ATTACK,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> AdversarialTraining:
    """Standard adversarial training: the first half of each batch is clean, the second half is attacked.

    Args:
        segmenter: the network to train.
        attack: the attack used in training.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Xu et al. 2021, algorithm 1, https://arxiv.org/abs/2003.06555.
    """
    return AdversarialTraining(segmenter, attack=attack, clean=0.5, aux_weight=aux_weight, ignore_index=ignore_index)
