"""Adversarial training from a robust backbone (PIR-AT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attacks.base import BoundAttack
from defenses.adversarial import AdversarialTraining
from defenses.base import Losses, defense
from defenses.pgd_at import TRAINING_PGD
from model_zoo.base import ModelError, Segmenter
from model_zoo.encoders import load_encoder


@defense("pir-at")
class PirAT(nn.Module):
    """Adversarial training on whole batches, started from an encoder that was trained robustly on ImageNet.

    Args:
        segmenter: the network to train; its trunk has an `encoder`.
        backbone: file of the encoder's robust weights, with torchvision's or timm's keys (.safetensors or .pth).
        attack: the attack inside training.
        warmup: number of batches over which the attack's `eps` and `alpha` grow to their values.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Croce et al. 2024, section 4, https://arxiv.org/abs/2306.12941.
    Departs from it in: budget and recipe are those of the matrix; theirs trains with eps 4/255 and AdamW.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        backbone: str,
        attack: BoundAttack = TRAINING_PGD,
        warmup: int = 0,
        aux_weight: float = 0.4,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.training_network = AdversarialTraining(
            segmenter, attack=attack, warmup=warmup, aux_weight=aux_weight, ignore_index=ignore_index
        )
        self.backbone = backbone

    def prepare(self) -> None:
        """Load the robust weights into the encoder.

        Raises:
            ModelError: the network has no encoder, or the file does not fit it.
        """
        encoder = getattr(self.deploy().trunk, "encoder", None)
        if encoder is None:
            raise ModelError("pir-at needs a network whose trunk has an encoder, such as pspnet or deeplabv3")
        load_encoder(encoder, self.backbone)

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of the attacked batch; see `defenses.base.TrainingDefense`."""
        return self.training_network.loss(images, masks, generator)

    def deploy(self) -> Segmenter:
        """Return the network."""
        return self.training_network.deploy()
