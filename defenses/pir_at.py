"""Adversarial training from a robust backbone (PIR-AT)."""

from __future__ import annotations

from segbench.attacks.base import BoundAttack
from segbench.defenses.base import defense
from segbench.defenses.pgd_at import TRAINING_PGD
from segbench.defenses.tools.adversarial import AdversarialTraining
from segbench.model_zoo.base import Segmenter


@defense("pir-at")
def pir_at(
    segmenter: Segmenter,
    *,
    backbone: str,
    attack: BoundAttack = TRAINING_PGD,
    warmup: int = 0,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> AdversarialTraining:
    """PGD adversarial training that starts from an encoder trained adversarially on ImageNet.

    Args:
        segmenter: the network to train; its trunk must have an `encoder`.
        backbone: file with the robust weights of the encoder, with the keys of torchvision or timm (.safetensors or
            .pth).
        attack: the attack used in training.
        warmup: number of batches over which the attack's `eps` and `alpha` grow linearly to their values.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Croce et al. 2024, section 4, https://arxiv.org/abs/2306.12941.
    Departs from it in: budget and training recipe come from the matrix; the paper trains at 4/255 with AdamW.
    """
    return AdversarialTraining(
        segmenter, attack=attack, warmup=warmup, backbone=backbone, aux_weight=aux_weight, ignore_index=ignore_index
    )
