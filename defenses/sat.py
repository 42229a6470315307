"""Standard adversarial training (SAT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attacks.base import BoundAttack
from attacks.bim import bim
from defenses.base import Losses, defense, segmentation_loss
from model_zoo.base import Segmenter

PAPER_ATTACK = bim.bind(eps=0.03, alpha=0.01, steps=3)
"""The attack inside training of Xu et al. 2021, section 6.2: BIM under linf, no random start."""


@defense("sat")
class SAT(nn.Module):
    """Standard adversarial training: the first half of each batch clean, the second half attacked.

    Adversarial images are made in eval mode, from the main classifier's loss, and only for the half that uses them.

    Args:
        segmenter: the network to train.
        attack: the attack inside training.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Xu et al. 2021, algorithm 1, https://arxiv.org/abs/2003.06555.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        attack: BoundAttack = PAPER_ATTACK,
        aux_weight: float = 0.4,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.attack = attack
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of the half-attacked batch; see `defenses.base.TrainingDefense`."""
        half = len(images) // 2
        adversarial = self.attack(
            self.segmenter, images[half:], masks[half:], ignore_index=self.ignore_index, generator=generator
        )
        mixed = torch.cat([images[:half], adversarial])
        return segmentation_loss(
            self.segmenter, mixed, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )

    def deploy(self) -> Segmenter:
        """Return the network."""
        return self.segmenter
