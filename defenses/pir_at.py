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
    """Adversarial training on whole batches, started from an encoder that was trained robustly on ImageNet.

    Args:
        segmenter: the network to train; its trunk has an `encoder`.
        backbone: file of the encoder's robust weights, with torchvision's or timm's keys (.safetensors or .pth).
        attack: the attack inside training.
        warmup: number of batches over which the attack's `eps` and `alpha` grow to their values.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Croce et al. 2024, section 4, https://arxiv.org/abs/2306.12941.
    Departs from it in: budget and recipe are those of the matrix; theirs trains at 4/255 with AdamW.
    """
    return AdversarialTraining(
        segmenter, attack=attack, warmup=warmup, backbone=backbone, aux_weight=aux_weight, ignore_index=ignore_index
    )
