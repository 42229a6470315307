"""DDC-AT-M, an ablation of DDC-AT."""

from __future__ import annotations

from attacks.base import BoundAttack
from defenses.base import defense
from defenses.ddcat import DivideAndConquer
from defenses.sat import PAPER_ATTACK
from model_zoo.base import Segmenter


@defense("ddcat-m")
def ddcat_m(
    segmenter: Segmenter,
    *,
    attack: BoundAttack = PAPER_ATTACK,
    lambda_main: float = 1.0,
    lambda_aux: float = 1.0,
    lambda_mask: float = 1.0,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> DivideAndConquer:
    """DDC-AT-M: pixels that flip under attack get the auxiliary branch in clean and adversarial images alike.

    Args:
        segmenter: the network to train; its classifier is the main branch.
        attack: the attack inside training.
        lambda_main: weight of L_n in eq. 5.
        lambda_aux: weight of L_a in eq. 5.
        lambda_mask: weight of L_m in eq. 5.
        aux_weight: weight of the auxiliary classifier on the earlier features.
        ignore_index: label of void pixels.

    Source: Xu et al. 2021, section 6.4 and table 3, https://arxiv.org/abs/2003.06555.
    """
    return DivideAndConquer(
        segmenter,
        divided="both",
        attack=attack,
        lambda_main=lambda_main,
        lambda_aux=lambda_aux,
        lambda_mask=lambda_mask,
        aux_weight=aux_weight,
        ignore_index=ignore_index,
    )
