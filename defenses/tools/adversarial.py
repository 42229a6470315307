"""Adversarial training: cross-entropy on batches that contain attacked images (SAT, PGD-AT and others)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.defenses.base import Losses, attacked, segmentation_loss
from segbench.model_zoo.base import ModelError, Segmenter
from segbench.model_zoo.encoders import load_encoder


class AdversarialTraining(nn.Module):
    """Training on batches whose last images are attacked; deploys the network itself.

    The attack runs in eval mode, on the main classifier's loss, and only on the images that are trained on in
    adversarial form.

    Args:
        segmenter: the network to train.
        attack: the attack used in training.
        clean: share of each batch, from its start, that is not attacked, in [0, 1).
        warmup: number of batches over which the attack's `eps` and `alpha` grow linearly to their values.
        backbone: file with initial weights of the encoder, or None to keep its current weights.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ValueError: `clean` is not in [0, 1), or `warmup` is given for an attack without `eps`.
    """

    batches: Tensor

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        attack: BoundAttack,
        clean: float = 0.0,
        warmup: int = 0,
        backbone: str | None = None,
        aux_weight: float,
        ignore_index: int,
    ) -> None:
        super().__init__()
        if not 0 <= clean < 1:
            raise ValueError(f"clean must be at least 0 and less than 1, got {clean}")
        if warmup and attack.threat.eps is None:
            raise ValueError(f"{attack.attack.name} has no eps to warm up; set warmup to 0")
        self.segmenter = segmenter
        self.attack = attack
        self.clean = clean
        self.warmup = warmup
        self.backbone = backbone
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def prepare(self) -> None:
        """Load the backbone's weights into the encoder if a file is given; see `defenses.base.Prepared`.

        Raises:
            ModelError: the network has no encoder, or the weights do not fit it.
        """
        if self.backbone is None:
            return
        encoder = getattr(self.segmenter.trunk, "encoder", None)
        if encoder is None:
            raise ModelError(
                "the option 'backbone' needs a network whose trunk has an encoder, such as pspnet or deeplabv3"
            )
        load_encoder(encoder, self.backbone)

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of a batch whose last images are attacked; see `defenses.base.TrainingDefense`."""
        self.batches += 1
        attack = warmed(self.attack, int(self.batches), self.warmup)
        first = int(len(images) * self.clean)
        adversarial = attacked(
            attack, self.segmenter, images[first:], masks[first:], ignore_index=self.ignore_index, generator=generator
        )
        mixed = torch.cat([images[:first], adversarial])
        return segmentation_loss(
            self.segmenter, mixed, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )

    def deploy(self) -> Segmenter:
        """Return the network."""
        return self.segmenter


def warmed(attack: BoundAttack, batch: int, warmup: int) -> BoundAttack:
    """Return the attack with `eps` and `alpha` multiplied by min(1, batch / warmup); an option that is None stays so.

    Args:
        attack: the attack at full strength.
        batch: number of the batch, starting at 1.
        warmup: number of batches until full strength.
    """
    if batch >= warmup:
        return attack
    given = {name: attack.options.get(name) for name in ("eps", "alpha")}
    scaled = {name: value * batch / warmup for name, value in given.items() if value is not None}
    return replace(attack, options={**attack.options, **scaled})
